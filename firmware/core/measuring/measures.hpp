// What the board measures of itself: its stack, the time of writing and erasing flash, the supply voltage. The generated
// measures.hpp includes this file after measure_facts.hpp, which has the message.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "measuring/own_figures.hpp"
#include "port.hpp"
#include "protocol.hpp"

namespace tmf {

struct Measures {
  static constexpr bool kMeasures = true;

  // Called once, at the start of the device.
  static void begin() { port::measures::begin(); }

  // Calls `program`, which writes `size` bytes to the flash, and takes its time.
  template <typename Program>
  static Status of_program(size_t size, Program program) {
    figures.programmed += static_cast<uint32_t>(size);
    return timed(figures.program_ticks, program);
  }

  // Calls `erase`, which erases a page of the flash, and takes its time.
  template <typename Erase>
  static Status of_erase(Erase erase) {
    ++figures.erased;
    return timed(figures.erase_ticks, erase);
  }

  // Answers a Measure; kUnknownType for any other request.
  static Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    if (type != protocol::Measure::kType) return Status::kUnknownType;
    protocol::Measure request;
    if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
    figures.stack_bytes = port::measures::stack_bytes();
    figures.millivolts = static_cast<uint16_t>(port::measures::millivolts());
    figures.write(out);
    return Status::kOk;
  }

 private:
  template <typename Act>
  static Status timed(uint32_t& ticks, Act act) {
    const uint32_t begun = port::ticks();
    const Status status = act();
    ticks += port::ticks() - begun;
    return status;
  }

  inline static protocol::Measurements figures;
};

}  // namespace tmf
