// Which entries of a delta travel: the k largest by magnitude, exactly, found without storing an index.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf {

// |value| as an integer that orders like it; NaN and infinity come last.
inline uint32_t magnitude_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & 0x7FFFFFFF;
}

constexpr uint32_t kInfiniteMagnitude = 0x7F800000;

// The k largest entries: all above the threshold and, lowest index first, `ties` of those equal to it.
struct Selection {
  uint32_t threshold = 0xFFFFFFFF;  // magnitude_bits of the k-th largest entry
  uint32_t ties = 0;
  uint32_t count = 0;
  float largest = 0;  // of all magnitudes; NaN or infinite when any entry is
};

constexpr int kMagnitudeBits = 31;

constexpr int log2(uint32_t power_of_two) {
  int log = 0;
  for (; power_of_two > 1; power_of_two /= 2) ++log;
  return log;
}

// Radix selection on the bits of the magnitude: a scan of `delta_at(0..n-1)` for each digit, which has a bin for each of
// its values. k is at most n.
template <typename DeltaAt, uint32_t kBins>
Selection select_top(DeltaAt delta_at, uint32_t n, uint32_t k, uint32_t (&histogram)[kBins]) {
  static_assert(kBins > 1 && (kBins & (kBins - 1)) == 0, "a digit is a number of bits");
  constexpr int kDigitBits = log2(kBins);
  constexpr int kScans = (kMagnitudeBits + kDigitBits - 1) / kDigitBits;
  Selection selection;
  selection.count = k < n ? k : n;
  uint32_t prefix = 0;
  uint32_t wanted = selection.count;
  uint32_t largest = 0;
  for (int shift = (kScans - 1) * kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (uint32_t& bin : histogram) bin = 0;
    const uint32_t known = shift + kDigitBits >= kMagnitudeBits ? 0 : 0xFFFFFFFFu << (shift + kDigitBits);
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t magnitude = magnitude_bits(delta_at(i));
      if (magnitude > largest) largest = magnitude;
      if ((magnitude & known) == prefix) ++histogram[magnitude >> shift & (kBins - 1)];
    }
    uint32_t digit = kBins - 1;
    for (; digit > 0 && histogram[digit] < wanted; --digit) wanted -= histogram[digit];
    prefix |= digit << shift;
  }
  std::memcpy(&selection.largest, &largest, sizeof largest);
  if (selection.count > 0) {
    selection.threshold = prefix;
    selection.ties = wanted;
  }
  return selection;
}

// A place between two selected entries; the first of them at `index` or later has this `rank`.
struct Cursor {
  uint32_t rank = 0;
  uint32_t index = 0;
  uint32_t ties = 0;  // still to be taken
};

// Moves past the next selected entry. Returns its index and sets `delta`, or returns n when there is none.
template <typename DeltaAt>
uint32_t next_selected(DeltaAt delta_at, uint32_t n, uint32_t threshold, Cursor& cursor, float& delta) {
  for (uint32_t i = cursor.index; i < n; ++i) {
    delta = delta_at(i);
    const uint32_t magnitude = magnitude_bits(delta);
    if (magnitude < threshold) continue;
    if (magnitude == threshold) {
      if (cursor.ties == 0) continue;
      --cursor.ties;
    }
    ++cursor.rank;
    cursor.index = i + 1;
    return i;
  }
  cursor.index = n;
  return n;
}

}  // namespace tmf
