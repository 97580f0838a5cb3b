// The entropy of an nRF52840: its random number generator, which samples thermal noise, with bias correction. Registers from
// Nordic's product specification. Included by one file of a board.
#pragma once

#include <entropy.hpp>

namespace tmf::nrf52840 {

struct RandomNumbers {
  volatile uint32_t start;
  volatile uint32_t stop;
  uint32_t reserved0[62];
  volatile uint32_t ready;  // event: value is new
  uint32_t reserved1[256];
  volatile uint32_t config;
  volatile uint32_t value;
};
static_assert(offsetof(RandomNumbers, ready) == 0x100 && offsetof(RandomNumbers, value) == 0x508);

constexpr uint32_t kCorrectBias = 1;
constexpr uint32_t kPatience = 1u << 20;  // reads of the event for a byte; the chip needs 120 µs, typically

}  // namespace tmf::nrf52840

bool tmf::port::entropy(uint8_t* to, size_t size) {
  using namespace nrf52840;
  auto& generator = *reinterpret_cast<RandomNumbers*>(0x4000D000);
  generator.config = kCorrectBias;
  generator.ready = 0;
  generator.start = 1;
  size_t made = 0;
  for (uint32_t left = kPatience; made < size && left > 0; --left) {
    if (generator.ready == 0) continue;
    generator.ready = 0;
    to[made++] = static_cast<uint8_t>(generator.value);
    left = kPatience;
  }
  generator.stop = 1;
  return made == size;
}
