// Reads bits, the lowest bit of each byte first, and numbers in Rice code, as delta_codec.hpp writes them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf {

// Reads the bits of a received payload; `ok()` is false from the first read past its end on.
class BitReader {
 public:
  BitReader(const uint8_t* data, size_t size) : data_(data), size_(8 * size) {}

  // The next `count` bits, 32 at most, the first one lowest.
  uint32_t take(uint32_t count) {
    uint32_t value = 0;
    for (uint32_t got = 0; got < count;) {
      if (at_ == size_) {
        ok_ = false;
        return 0;
      }
      const uint32_t used = at_ % 8;
      const uint32_t some = 8 - used < count - got ? 8 - used : count - got;
      value |= (static_cast<uint32_t>(data_[at_ / 8]) >> used & ((1u << some) - 1)) << got;
      at_ += some;
      got += some;
    }
    return value;
  }

  // A number in Rice code: its quotient by 2^parameter in ones, a zero, then the remainder; or `escape` ones, then the number in
  // `raw_bits` bits.
  uint32_t rice(uint32_t parameter, uint32_t escape, uint32_t raw_bits) {
    uint32_t quotient = 0;
    while (quotient < escape && take(1) == 1) ++quotient;
    return quotient < escape ? quotient << parameter | take(parameter) : take(raw_bits);
  }

  bool ok() const { return ok_; }
  // Whether nothing is left but zeros that fill the last byte.
  bool is_used_up() {
    const size_t left = size_ - at_;
    return ok_ && left < 8 && take(static_cast<uint32_t>(left)) == 0;
  }

 private:
  const uint8_t* data_;
  size_t size_;  // in bits
  size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace tmf
