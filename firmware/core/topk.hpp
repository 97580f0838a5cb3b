// Which entries of a delta travel: those of the highest priority, exactly, found without storing an index.
#pragma once

#include <cstdint>
#include <cstring>

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

// |value| as an integer that orders like it; NaN and infinity come last.
inline uint32_t magnitude_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & 0x7FFFFFFF;
}

constexpr uint32_t kInfiniteMagnitude = 0x7F800000;
constexpr int kPriorityBits = 31;

// What makes one entry travel rather than another: its magnitude, or a draw of its own.
struct Choice {
  protocol::Selection selection = protocol::Selection::kGlobal;
  Key key;

  // In kPriorityBits bits.
  template <typename DeltaAt>
  uint32_t priority(const DeltaAt& delta_at, uint32_t i) const {
    if (selection == protocol::Selection::kRandom)
      return draw(key.seed, key.client, key.round, protocol::Stream::kSelection, i).first >> 1;
    return magnitude_bits(delta_at(i));
  }
};

// Consecutive entries up to `end`, of which all above the threshold and, lowest index first, `ties` of those equal to it
// are selected.
struct Part {
  uint32_t end = 0;
  uint32_t threshold = 0;  // priority of the last one selected
  uint32_t ties = 0;
};

// Deals k of n entries out to parts: one to each, the others as evenly as the parts' further entries lie.
class Dealer {
 public:
  Dealer(uint32_t k, uint32_t n, uint32_t parts) : dealt_(k - parts), among_(n - parts) {}

  // Entries of the next part, of which there are `size`.
  uint32_t next(uint32_t size) {
    uint32_t share = 1;
    for (uint32_t i = 1; i < size; ++i) {
      owed_ += dealt_;
      if (owed_ < among_) continue;
      owed_ -= among_;
      ++share;
    }
    return share;
  }

 private:
  const uint32_t dealt_;
  const uint32_t among_;
  uint32_t owed_ = 0;
};

constexpr int log2(uint32_t power_of_two) {
  int log = 0;
  for (; power_of_two > 1; power_of_two /= 2) ++log;
  return log;
}

// The k entries of begin..end-1 with the highest priorities, 0 < k <= end - begin. A radix selection: a scan for each digit
// of the priorities, with a bin for each of a digit's values.
template <typename PriorityAt, uint32_t kBins>
Part select_top(PriorityAt priority_at, uint32_t begin, uint32_t end, uint32_t k, uint32_t (&histogram)[kBins]) {
  static_assert(kBins > 1 && (kBins & (kBins - 1)) == 0, "a digit is a number of bits");
  constexpr int kDigitBits = log2(kBins);
  constexpr int kScans = (kPriorityBits + kDigitBits - 1) / kDigitBits;
  uint32_t prefix = 0;
  for (int shift = (kScans - 1) * kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (uint32_t& bin : histogram) bin = 0;
    const uint32_t known = shift + kDigitBits >= kPriorityBits ? 0 : 0xFFFFFFFFu << (shift + kDigitBits);
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t priority = priority_at(i);
      if ((priority & known) == prefix) ++histogram[priority >> shift & (kBins - 1)];
    }
    uint32_t digit = kBins - 1;
    for (; digit > 0 && histogram[digit] < k; --digit) k -= histogram[digit];
    prefix |= digit << shift;
  }
  return {end, prefix, k};
}

// A place between two selected entries; the first of them at `index` or later has this `rank`.
struct Cursor {
  uint32_t rank = 0;
  uint32_t index = 0;
  uint32_t part = 0;
  uint32_t ties = 0;  // of this part, still to be taken
};

// Moves past the next selected entry of all parts, which end at n. Returns its index, or n when there is none.
template <typename PriorityAt>
uint32_t next_selected(PriorityAt priority_at, const Part* parts, uint32_t n, Cursor& cursor) {
  for (uint32_t i = cursor.index; i < n; ++i) {
    if (i == parts[cursor.part].end) cursor.ties = parts[++cursor.part].ties;
    const uint32_t priority = priority_at(i);
    const uint32_t threshold = parts[cursor.part].threshold;
    if (priority < threshold) continue;
    if (priority == threshold) {
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
