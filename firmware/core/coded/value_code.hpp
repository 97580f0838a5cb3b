// The code of an update's values: signed numbers of kBits bits whose magnitudes lie close above the least of them, as those of the
// largest entries of an update do.
//
//   Rice parameter r: m = magnitude - least; m >> r ones, a zero, the r low bits of m. When m >> r is kValueEscape or more:
//                     kValueEscape ones, then m in kBits - 1 bits. The sign follows, 1 for a negative number; a zero has none.
//   Signs: the sign alone, as every magnitude is `least`.
//   Packed: the number in kBits bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "coded/bit_string.hpp"
#include "protocol.hpp"

namespace tmf {

template <uint32_t kBits>
struct ValueCode {
  static constexpr uint32_t kMagnitudeBits = kBits - 1;
  static constexpr uint32_t kLevels = 1u << kMagnitudeBits;  // magnitudes are below it
  static constexpr uint32_t kEscape = protocol::kValueEscape;
  static_assert(kBits >= 2 && kEscape + kMagnitudeBits + 1 <= 32, "the longest code fits a word");

  protocol::ValueCoding coding = protocol::ValueCoding::kRice0;  // zero, so that a program's start need not copy it
  uint32_t least = 0;

  ValueCode() = default;
  ValueCode(protocol::ValueCoding with, uint32_t from) : coding(with), least(from) {}

  // The code of packed values.
  static ValueCode packed() { return {protocol::ValueCoding::kPacked, 0}; }

  static uint32_t magnitude(int32_t value) { return static_cast<uint32_t>(value < 0 ? -value : value); }

  // Chooses the coding that takes the fewest bits for numbers of which `histogram` counts each magnitude; it is working memory
  // afterwards. Among equals, the lowest Rice parameter comes first and `packed` last.
  template <uint32_t kBins>
  void plan(uint32_t (&histogram)[kBins]) {
    static_assert(kBins >= kLevels, "a bin for each magnitude");
    uint32_t count = 0, kinds = 0;
    for (uint32_t m = kLevels; m-- > 0;) {
      if (histogram[m] == 0) continue;
      count += histogram[m];
      least = m;
      ++kinds;
    }
    const uint32_t signs = count - histogram[0];
    if (kinds == 1) {
      coding = kMagnitudeBits + signs <= count * kBits ? protocol::ValueCoding::kSigns : protocol::ValueCoding::kPacked;
      return;
    }
    coding = protocol::ValueCoding::kPacked;
    uint32_t fewest = count * kBits;
    // bins[q] counts the magnitudes whose quotient is q; each parameter joins two neighbours.
    uint32_t* const bins = histogram + least;
    for (uint32_t r = 0, quotients = kLevels - least; r < kMagnitudeBits; ++r) {
      uint32_t bits = kMagnitudeBits + signs;
      for (uint32_t q = 0; q < quotients; ++q) bits += bins[q] * (q < kEscape ? q + 1 + r : kEscape + kMagnitudeBits);
      if (bits < fewest || (bits == fewest && coding == protocol::ValueCoding::kPacked)) {
        fewest = bits;
        coding = static_cast<protocol::ValueCoding>(r);
      }
      for (uint32_t q = 0; q < quotients; q += 2) bins[q / 2] = bins[q] + (q + 1 < quotients ? bins[q + 1] : 0);
      quotients = (quotients + 1) / 2;
    }
  }

  // Bits that a message needs before its values, for `least`.
  uint32_t head_bits() const { return coding == protocol::ValueCoding::kPacked ? 0 : kMagnitudeBits; }

  // Number of bits of a value, at most 32.
  uint32_t bits(int32_t value) const {
    if (coding == protocol::ValueCoding::kPacked) return kBits;
    const uint32_t sign = value != 0;
    if (coding == protocol::ValueCoding::kSigns) return sign;
    const uint32_t r = static_cast<uint32_t>(coding), quotient = (magnitude(value) - least) >> r;
    return sign + (quotient < kEscape ? quotient + 1 + r : kEscape + kMagnitudeBits);
  }

  // The bits of a value, LSB first.
  uint32_t word(int32_t value) const {
    const uint32_t negative = value < 0;
    if (coding == protocol::ValueCoding::kPacked) return static_cast<uint32_t>(value) & ((1u << kBits) - 1);
    if (coding == protocol::ValueCoding::kSigns) return negative;
    const uint32_t r = static_cast<uint32_t>(coding), above = magnitude(value) - least, quotient = above >> r;
    if (quotient >= kEscape) return ((1u << kEscape) - 1) | (above | negative << kMagnitudeBits) << kEscape;
    return ((1u << quotient) - 1) | ((above & ((1u << r) - 1)) | negative << r) << (quotient + 1);
  }

  template <int kStep>
  void write_head(BitString<kStep>& to) const {
    if (head_bits() > 0) to.put(least, head_bits());
  }

  // Writes a value; `count` is its number of bits.
  template <int kStep>
  void write(int32_t value, uint32_t count, BitString<kStep>& to) const {
    constexpr uint32_t kMost = BitString<kStep>::kMost;
    const uint32_t all = word(value);
    if (count <= kMost) {
      to.put(all, count);
    } else {
      to.put(all & ((1u << kMost) - 1), kMost);
      to.put(all >> kMost, count - kMost);
    }
  }
};

}  // namespace tmf
