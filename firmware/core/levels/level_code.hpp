// The code of levels, whole numbers from -kLargest to kLargest, and of the gaps between the entries of an update.
//
// A number is written as its class, which is the number of its bits, and then its bits after the first one. Two of these bits
// have adaptive probabilities for each class; the others count as even. The class is written in ones and a zero: for gaps from
// 0 upwards, for levels from the largest class downwards. The sign of a level follows, 1 for a negative one; a level of 0 has
// none.
//
// The same functions write and read: a coder is a RangeEncoder, or a RangeDecoder, to which the numbers do not matter.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bit_reader.hpp"
#include "levels/range_coder.hpp"

namespace tmf {

// Numbers of at most kTop bits. The classes from kKept - 1 on share their probabilities.
template <uint32_t kTop, uint32_t kKept, bool kFromTop>
class NumberCode {
 public:
  // Writes `number` and returns it; or returns the one that is read.
  template <typename Coder>
  uint32_t code(Coder& coder, uint32_t number) {
    uint32_t size = 0;
    while (!Coder::kReads && size < kTop && number >> size != 0) ++size;
    const uint32_t place = kFromTop ? kTop - size : size;
    uint32_t ones = 0;
    while (ones < kTop && coder.bit(ones_[kept(ones)], ones < place) != 0) ++ones;
    size = kFromTop ? kTop - ones : ones;
    if (size < 2) return size;
    uint32_t found = 2 | coder.bit(second_[kept(size)], number >> (size - 2) & 1);
    if (size < 3) return found;
    found = found << 1 | coder.bit(third_[kept(size)][found & 1], number >> (size - 3) & 1);
    for (uint32_t left = size - 3; left-- > 0;) found = found << 1 | coder.even(number >> left & 1);
    return found;
  }

 private:
  static constexpr uint32_t kept(uint32_t of) { return of < kKept ? of : kKept - 1; }

  Chance ones_[kKept];
  Chance second_[kKept];
  Chance third_[kKept][2];
};

template <uint32_t kBits>
class LevelCode {
 public:
  static constexpr int32_t kLargest = (1 << (kBits - 1)) - 1;

  template <typename Coder>
  int32_t code(Coder& coder, int32_t level) {
    const int32_t found = static_cast<int32_t>(magnitude_.code(coder, static_cast<uint32_t>(level < 0 ? -level : level)));
    if (found == 0) return 0;
    return coder.even(level < 0) != 0 ? -found : found;
  }

 private:
  NumberCode<kBits - 1, kBits, true> magnitude_;
};

using GapCode = NumberCode<protocol::kGapBits, protocol::kGapClasses, false>;

// Reads the levels of one message; those in a range code only if kTakesRange.
template <uint32_t kBits, bool kTakesRange>
class LevelReader {
 public:
  LevelReader(protocol::LevelCoding coding, const uint8_t* data, size_t size)
      : is_ranged_(kTakesRange && coding == protocol::LevelCoding::kRange), packed_(data, is_ranged_ ? 0 : size), ranged_(data, is_ranged_ ? size : 0) {}

  // The next level; may be below -kLargest in packed messages, which no host sends.
  int32_t next() {
    if constexpr (kTakesRange)
      if (is_ranged_) return code_.code(ranged_, 0);
    const uint32_t bits = packed_.take(kBits);
    return static_cast<int32_t>(bits) - (bits >> (kBits - 1) != 0 ? 1 << kBits : 0);
  }
  bool is_used_up() { return kTakesRange && is_ranged_ ? ranged_.is_used_up() : packed_.is_used_up(); }

 private:
  bool is_ranged_;
  BitReader packed_;
  RangeDecoder ranged_;
  LevelCode<kBits> code_;
};

}  // namespace tmf
