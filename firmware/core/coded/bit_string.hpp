// Strings of bits that are written to memory in either direction.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf {

// A string of bits, LSB first, that is written to memory from `at` upwards or, with kStep = -1, downwards.
template <int kStep>
class BitString {
 public:
  static constexpr uint32_t kMost = 24;  // bits that `put` takes at a time

  explicit BitString(uint8_t* at) : at_(at) {}
  // Writes the `count` low bits of `bits`, whose other bits are 0.
  void put(uint32_t bits, uint32_t count) {
    held_ |= bits << filled_;
    for (filled_ += count; filled_ >= 8; filled_ -= 8) {
      *at_ = static_cast<uint8_t>(held_);
      at_ += kStep;
      held_ >>= 8;
    }
  }
  // Fills the last byte with zeros. Returns the place after it.
  uint8_t* close() {
    if (filled_ > 0) put(0, 8 - filled_);
    return at_;
  }

 private:
  uint8_t* at_;
  uint32_t held_ = 0;    // bits that do not fill a byte yet
  uint32_t filled_ = 0;  // their number, below 8 between two calls
};

}  // namespace tmf
