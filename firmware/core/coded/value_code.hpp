// The code of an update's values: signed numbers of kBits bits whose magnitudes lie close above the least of them, as those of the
// largest entries of an update do.
//
//   Rice parameter r: m = magnitude - least; m >> r ones, a zero, the r low bits of m. When m >> r is kValueEscape or more:
//                     kValueEscape ones, then m in kBits - 1 bits. The sign follows, 1 for a negative number; a zero has none.
//   Apart, parameter r: the same, but m = 0 is a zero bit, and any other m is coded as m - 1 with one more one: for many numbers
//                     of the least magnitude below others that are spread widely, as the zeros of an update of all weights.
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
  // afterwards. Among equals, the lowest coding comes first and `packed` last.
  template <uint32_t kBins>
  void plan(uint32_t (&histogram)[kBins]) {
    static_assert(kBins >= kLevels, "a bin for each magnitude");
    uint32_t count = 0, most = 0;
    for (uint32_t m = kLevels; m-- > 0;) {
      if (histogram[m] == 0) continue;
      if (count == 0) most = m;
      count += histogram[m];
      least = m;
    }
    const uint32_t head_and_signs = kMagnitudeBits + count - histogram[0];
    if (least == most) {
      coding = head_and_signs <= count * kBits ? protocol::ValueCoding::kSigns : protocol::ValueCoding::kPacked;
      return;
    }
    coding = protocol::ValueCoding::kPacked;
    uint32_t fewest = count * kBits;
    const auto take = [&](uint32_t bits, uint32_t code) {
      if (bits > fewest || (bits == fewest && static_cast<uint32_t>(coding) <= code)) return;
      fewest = bits;
      coding = static_cast<protocol::ValueCoding>(code);
    };
    uint32_t* const bins = histogram + least;
    if (may_be_apart(bins, most - least)) {
      for (uint32_t r = 1; r < kMagnitudeBits; ++r) {
        const Rice rice{r, 1};
        uint32_t bits = head_and_signs + bins[0];
        for (uint32_t m = 1; m <= most - least; ++m) bits += bins[m] * rice.bits(m);
        take(bits, r | protocol::kValueApart);
      }
    }
    // bins[q] counts the magnitudes whose quotient is q; each parameter joins two neighbours.
    for (uint32_t r = 0, quotients = kLevels - least; r < kMagnitudeBits; ++r) {
      uint32_t bits = head_and_signs;
      for (uint32_t q = 0; q < quotients; ++q) bits += bins[q] * (q < kEscape ? q + 1 + r : kEscape + kMagnitudeBits);
      take(bits, r);
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
    return coding == protocol::ValueCoding::kSigns ? sign : sign + rice().bits(magnitude(value) - least);
  }

  // The bits of a value, LSB first.
  uint32_t word(int32_t value) const {
    const uint32_t negative = value < 0;
    if (coding == protocol::ValueCoding::kPacked) return static_cast<uint32_t>(value) & ((1u << kBits) - 1);
    if (coding == protocol::ValueCoding::kSigns) return negative;
    const Rice code = rice();
    const uint32_t above = magnitude(value) - least, quotient = code.quotient(above);
    if (quotient >= kEscape) return ((1u << kEscape) - 1) | (above | negative << kMagnitudeBits) << kEscape;
    const uint32_t low_bits = code.low_bits(above), low = (above - code.apart) & ((1u << low_bits) - 1);
    return ((1u << quotient) - 1) | (low | negative << low_bits) << (quotient + 1);
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

 private:
  // The code of m, a magnitude above the least one, without its sign. `apart`: 1 if m = 0 has a code of its own, else 0.
  struct Rice {
    uint32_t parameter, apart;

    uint32_t quotient(uint32_t m) const { return m < apart ? 0 : ((m - apart) >> parameter) + apart; }
    uint32_t low_bits(uint32_t m) const { return m < apart ? 0 : parameter; }
    uint32_t bits(uint32_t m) const {
      const uint32_t ones = quotient(m);
      return ones < kEscape ? ones + 1 + low_bits(m) : kEscape + kMagnitudeBits;
    }
  };

  // Whether m = 0 apart can take fewer bits than Rice codes of the same parameter: of these 0 saves the parameter, at most, and any
  // odd m, as no multiple of 2^parameter, takes one more bit, unless it has too many ones in either code.
  static bool may_be_apart(const uint32_t* bins, uint32_t most) {
    constexpr uint32_t kOnesOfAll = 2 * (kEscape - 1);
    uint32_t odd = 0;
    for (uint32_t m = 1; m <= most && m < kOnesOfAll; m += 2) odd += bins[m];
    return bins[0] * (kMagnitudeBits - 1) > odd;
  }

  Rice rice() const {
    const uint32_t code = static_cast<uint32_t>(coding);
    return {code % protocol::kValueApart, code / protocol::kValueApart};
  }
};

}  // namespace tmf
