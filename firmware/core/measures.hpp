// The empty version of a board's measurements of itself, for firmware that makes none. With board.measures = true, a generated
// header of this name replaces it and includes measuring/measures.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that measuring/measures.hpp describes; takes neither memory nor time.
struct Measures {
  static constexpr bool kMeasures = false;

  static void begin() {}
  template <typename Program>
  static Status of_program(size_t, Program program) {
    return program();
  }
  template <typename Erase>
  static Status of_erase(Erase erase) {
    return erase();
  }
  static Status answer(uint8_t, const uint8_t*, size_t, Writer&) { return Status::kUnknownType; }
};

}  // namespace tmf
