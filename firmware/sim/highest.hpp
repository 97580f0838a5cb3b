// Which entries have the highest priorities, and the list of them: loops over all entries that a vector unit makes fast.
#pragma once

#include <cstdint>
#include <cstring>

#pragma GCC push_options
#pragma GCC optimize("vect-cost-model=dynamic")  // as in update.hpp

namespace tmf::sim {

// The place before `end` from which on `surplus` priorities are equal to the threshold; many changes are 0.
inline uint32_t after_equals(const int32_t* priorities, uint32_t begin, uint32_t end, int32_t threshold, uint32_t surplus) {
  constexpr uint32_t kAtOnce = 64;
  while (surplus > 0 && end - begin >= kAtOnce) {
    int32_t equal = 0;
    for (uint32_t i = end - kAtOnce; i < end; ++i) equal += priorities[i] == threshold;
    if (static_cast<uint32_t>(equal) > surplus) break;
    surplus -= static_cast<uint32_t>(equal);
    end -= kAtOnce;
  }
  while (surplus > 0) surplus -= priorities[--end] == threshold;
  return end;
}

// Marks the k entries of begin..end-1 with the highest priorities as 1, all others as 0; among equals the first ones. Narrows the
// interval of the threshold: counting is so fast in a vector unit that it beats a histogram. The search begins at the last
// threshold, `near`, as those of a round's clients are alike, and goes away from it in growing steps until the threshold is
// between two counts.
inline void mark_highest(const int32_t* priorities, uint32_t begin, uint32_t end, uint32_t k, uint8_t* marks, int32_t& near) {
  constexpr int64_t kFirstStep = 1 << 20;
  int64_t least = 0, beyond = INT32_MAX;  // at least k priorities reach the one, fewer than k the other
  uint32_t reached = end - begin, missed = 0;
  int64_t middle = near, step = kFirstStep;
  for (uint32_t turn = 1; reached != k && beyond - least > 1; ++turn) {
    const int32_t bound = static_cast<int32_t>(middle);
    int32_t below = 0;
    for (uint32_t i = begin; i < end; ++i) below += priorities[i] < bound;
    const uint32_t count = end - begin - static_cast<uint32_t>(below);
    if (count < k) beyond = middle, missed = count;
    else least = middle, reached = count;
    if (least == 0 || beyond == INT32_MAX) {
      middle = least == 0 ? beyond - step : least + step;
      step *= 4;
    } else if (turn % 2 == 0) {
      middle = least + (beyond - least) / 2;
    } else {
      middle = least + (beyond - least) * (reached - k) / (reached - missed);  // as if they were evenly spread
    }
    middle = middle <= least ? least + 1 : middle >= beyond ? beyond - 1 : middle;
  }
  const int32_t threshold = static_cast<int32_t>(least);
  near = threshold > 0 ? threshold : 1;
  const uint32_t cut = after_equals(priorities, begin, end, threshold, reached - k);
  // All of them, as a loop of a fixed length needs no single steps at its end; the second one is empty nearly always.
  for (uint32_t i = begin; i < end; ++i) marks[i] = priorities[i] >= threshold;
  for (uint32_t i = cut; i < end; ++i) marks[i] = priorities[i] > threshold;
}

// Eight bytes that are 0 or 1 as the bits of a number, the first as the lowest.
inline uint32_t flags(const uint8_t* from) {
  constexpr uint64_t kGather = 0x0102040810204080;  // moves the lowest bits of 8 bytes into the highest byte
  uint64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return static_cast<uint32_t>(bytes * kGather >> 56);
}

typedef uint32_t Eight __attribute__((vector_size(8 * sizeof(uint32_t))));

// For each set of eight entries the places and the number of those that are in it.
struct Places {
  uint32_t of[256][8] = {};
  uint8_t count[256] = {};

  constexpr Places() {
    for (uint32_t set = 0; set < 256; ++set)
      for (uint32_t place = 0; place < 8; ++place)
        if (set >> place & 1) of[set][count[set]++] = place;
  }
};

// Writes the indices of all entries that are marked, in ascending order; eight at a time, so up to seven more than there are.
inline void list_marked(const uint8_t* marks, uint32_t count, uint32_t* indices) {
  static constexpr Places kPlaces{};
  for (uint32_t i = 0; i < count; i += 8) {  // without a branch, which would be guessed wrongly
    const uint32_t set = flags(marks + i);
    Eight eight;
    std::memcpy(&eight, kPlaces.of[set], sizeof eight);
    eight += i;
    std::memcpy(indices, &eight, sizeof eight);
    indices += kPlaces.count[set];
  }
}

}  // namespace tmf::sim

#pragma GCC pop_options
