// The supply voltage of an nRF52840, which its analogue-digital converter (SAADC) can measure. Registers from Nordic's product
// specification. Included by one file of a board.
#pragma once

#include <cstddef>
#include <cstdint>

#include <measuring/own_figures.hpp>

namespace tmf::nrf52840 {

struct Saadc {
  volatile uint32_t start;
  volatile uint32_t sample;
  volatile uint32_t stop;
  uint32_t reserved0[61];
  volatile uint32_t started;  // events
  volatile uint32_t end;
  uint32_t reserved1[3];
  volatile uint32_t stopped;
  uint32_t reserved2[250];
  volatile uint32_t enable;
  uint32_t reserved3[3];
  struct {
    volatile uint32_t positive;
    volatile uint32_t negative;
    volatile uint32_t config;
    uint32_t limits;
  } channel[8];
  uint32_t reserved4[24];
  volatile uint32_t resolution;
  uint32_t reserved5[14];
  volatile uint32_t address;
  volatile uint32_t maximum_count;
};
static_assert(offsetof(Saadc, started) == 0x100 && offsetof(Saadc, stopped) == 0x114 && offsetof(Saadc, enable) == 0x500);
static_assert(offsetof(Saadc, channel) == 0x510 && offsetof(Saadc, resolution) == 0x5F0 && offsetof(Saadc, address) == 0x62C);

constexpr uint32_t kNoInput = 0;
constexpr uint32_t kSupply = 9;       // VDD as a channel's input
constexpr uint32_t kLong = 3u << 16;  // samples for 10 us; gain 1/6 and the reference of 0.6 V are 0: 3.6 V at most
constexpr uint32_t kTwelveBits = 2;
constexpr uint32_t kFullScaleMillivolts = 3600;
constexpr uint32_t kSaadcPatience = 1u << 16;  // reads of an event; a sample takes some 12 us

inline bool happens(volatile uint32_t& event) {
  for (uint32_t left = kSaadcPatience; left > 0; --left)
    if (event != 0) return true;
  return false;
}

}  // namespace tmf::nrf52840

uint32_t tmf::port::measures::millivolts() {
  using namespace nrf52840;
  auto& saadc = *reinterpret_cast<Saadc*>(0x40007000);
  if (saadc.enable != 0) return 0;  // somebody else is using it
  static volatile int16_t value;    // in RAM, which the SAADC writes by DMA
  value = 0;
  saadc.channel[0].positive = kSupply;
  saadc.channel[0].negative = kNoInput;
  saadc.channel[0].config = kLong;
  saadc.resolution = kTwelveBits;
  saadc.address = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&value));
  saadc.maximum_count = 1;
  saadc.started = saadc.end = saadc.stopped = 0;
  saadc.enable = 1;
  saadc.start = 1;
  bool measured = happens(saadc.started);
  saadc.sample = 1;
  measured = happens(saadc.end) && measured;
  saadc.stop = 1;
  measured = happens(saadc.stopped) && measured;
  saadc.enable = 0;
  saadc.channel[0].positive = kNoInput;
  return measured && value > 0 ? static_cast<uint32_t>(value) * kFullScaleMillivolts >> 12 : 0;
}
