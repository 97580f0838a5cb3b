// Top-P selection: finds the k entries of a delta with the highest priority, exactly and without storing indices.
#pragma once

#include <cstdint>
#include <cstring>

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

// |value| as an integer of the same order; infinity and NaN are the largest.
inline uint32_t magnitude_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & 0x7FFFFFFF;
}

constexpr uint32_t kInfiniteMagnitude = 0x7F800000;
constexpr int kPriorityBits = 31;

// The rule by which entries are selected: by magnitude or at random. `key` identifies the random numbers.
struct SelectionRule {
  protocol::Selection selection = protocol::Selection::kGlobal;
  Key key;

  // The priority of entry i, in kPriorityBits bits.
  template <typename DeltaAt>
  uint32_t priority(const DeltaAt& delta_at, uint32_t i) const {
    if (selection == protocol::Selection::kRandom)
      return draw(key.seed, key.client, key.round, protocol::Stream::kSelection, i).first >> 1;
    return magnitude_bits(delta_at(i));
  }
};

// The selection within consecutive entries that end before index `end`: all entries with a priority above the threshold, and
// the first `ties` entries with a priority equal to it.
struct Part {
  uint32_t end = 0;
  uint32_t threshold = 0;  // lowest priority that is selected
  uint32_t ties = 0;
};

// Apportions k selected entries to parts with n entries in total: one to each part, the other k - parts in proportion to the
// parts' other entries.
class Apportionment {
 public:
  Apportionment(uint32_t k, uint32_t n, uint32_t parts) : seats_(k - parts), candidates_(n - parts) {}

  // Number of selected entries of the next part, which has `size` entries.
  uint32_t next(uint32_t size) {
    uint32_t share = 1;
    for (uint32_t i = 1; i < size; ++i) {
      remainder_ += seats_;
      if (remainder_ < candidates_) continue;
      remainder_ -= candidates_;
      ++share;
    }
    return share;
  }

 private:
  const uint32_t seats_;       // entries to apportion
  const uint32_t candidates_;  // entries among which they are apportioned
  uint32_t remainder_ = 0;     // fraction of an entry left over so far, times candidates_
};

constexpr int log2(uint32_t power_of_two) {
  int log = 0;
  for (; power_of_two > 1; power_of_two /= 2) ++log;
  return log;
}

// Selects the k entries of begin..end-1 with the highest priorities, 0 < k <= end - begin, by radix selection: one scan for
// each digit of the priorities, with a histogram bin for each value of the digit.
template <typename PriorityAt, uint32_t kBins>
Part select_top(PriorityAt priority_at, uint32_t begin, uint32_t end, uint32_t k, uint32_t (&histogram)[kBins]) {
  static_assert(kBins > 1 && (kBins & (kBins - 1)) == 0, "the number of bins is a power of two");
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

// Position of a scan over the selected entries: the next selected entry is at `index` or later and has this `rank`.
struct Cursor {
  uint32_t rank = 0;
  uint32_t index = 0;
  uint32_t part = 0;
  uint32_t ties = 0;  // of this part, not passed yet
};

// Returns the index of the next selected entry and moves the cursor past it; n when there is none. The last part ends at n.
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
