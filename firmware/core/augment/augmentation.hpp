// Changes a sample's input at random, in its place and anew for every step.
#pragma once

#include <cstdint>

#include "../prng.hpp"
#include "places.hpp"
#include "protocol.hpp"
#include "turning.hpp"

namespace tmf::augmentation {

constexpr bool kAugments = true;

// Whether samples of this set change.
constexpr bool applies(protocol::SampleSet set) { return set == protocol::SampleSet::kAdapt ? kInAdaptation : kInTraining; }

// The random numbers of one step: those of its client in its round, of which every step of a program has its own.
class Draws {
 public:
  Draws(const Key& key, uint32_t step)
      : key_(draw(key.seed, key.client, key.round, static_cast<protocol::Stream>(kStream), step)) {}
  Pair next() { return threefry(key_, {number_++, 0}); }

 private:
  Pair key_;
  uint32_t number_ = 0;
};

// A number below `count`.
inline uint32_t below(uint32_t count, uint32_t word) {
  return static_cast<uint32_t>(static_cast<uint64_t>(word) * count >> 32);
}

// A whole number in [-most, most].
inline int32_t either_way(uint32_t most, uint32_t word) {
  return static_cast<int32_t>(below(2 * most + 1, word)) - static_cast<int32_t>(most);
}

// Moves and clears places of an image of kRows rows and kColumns columns. A Value is a float or a byte.
template <typename Value>
void move(Value* inputs, Draws& draws) {
  constexpr uint32_t kRow = kColumns * kChannels, kAll = kRows * kRow;
  if constexpr (kShiftRows > 0 || kShiftColumns > 0) {
    const Pair by = draws.next();
    if (kShiftRows > 0) augment::shift(inputs, 1, kAll, either_way(kShiftRows, by.first) * static_cast<int32_t>(kRow));
    augment::shift(inputs, kRows, kRow, either_way(kShiftColumns, by.second) * static_cast<int32_t>(kChannels));
  }
  if constexpr (kMaskRows > 0) {
    const Pair mask = draws.next();
    const uint32_t rows = below(kMaskRows + 1, mask.first);
    augment::clear(inputs, 1, kAll, below(kRows - rows + 1, mask.second) * kRow, rows * kRow);
  }
  if constexpr (kMaskColumns > 0) {
    const Pair mask = draws.next();
    const uint32_t columns = below(kMaskColumns + 1, mask.first);
    augment::clear(inputs, kRows, kRow, below(kColumns - columns + 1, mask.second) * kChannels, columns * kChannels);
  }
}

// Changes the kInputs values themselves, each sample by one rotation and one factor.
inline void compute(float* inputs, Draws& draws) {
  if constexpr (kTurns || kScale > 0) {
    const Pair one = draws.next(), other = draws.next();
    if constexpr (kTurns) {
      const augment::Rotation rotation(augment::within(kTangent, one.first), augment::within(kTangent, one.second),
                                       augment::within(kTangent, other.first));
      for (uint32_t i = 0; i + 3 <= kInputs; i += 3) rotation.turn(inputs + i);
    }
    if constexpr (kScale > 0) {
      const float factor = 1.0f + augment::within(kScale, other.second);
      for (uint32_t i = 0; i < kInputs; ++i) inputs[i] = inputs[i] * factor;
    }
  }
  if constexpr (kJitters) {
    Pair words = {};
    for (uint32_t i = 0, channel = 0; i < kInputs; ++i) {
      if (i % 2 == 0) words = draws.next();
      inputs[i] = inputs[i] + augment::noise(i % 2 == 0 ? words.first : words.second) * kJitter[channel];
      if (++channel == kJitterChannels) channel = 0;
    }
  }
}

// Changes the inputs of the sample of step `step` of a program, which are as they came: not normalised. Inputs that stay bytes
// only move.
inline void change(float* inputs, const Key& key, uint32_t step) {
  Draws draws(key, step);
  move(inputs, draws);
  compute(inputs, draws);
}
inline void change(uint8_t* inputs, const Key& key, uint32_t step) {
  Draws draws(key, step);
  move(inputs, draws);
}

}  // namespace tmf::augmentation
