// Samples of a group of clients, each of which goes into its client's lane of a vector.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "lanes.hpp"
#include "model.hpp"
#include "simulation_abi.hpp"
#include "single/runs.hpp"

namespace tmf::sim {

// Vectorised, which -O2 alone does not do.
#pragma GCC push_options
#pragma GCC optimize("vect-cost-model=dynamic")
inline void numbers_of(const uint8_t* levels, float scale, uint32_t count, float* numbers) {
  for (uint32_t i = 0; i < count; ++i) numbers[i] = static_cast<float>(levels[i]) * scale;
}
#pragma GCC pop_options

// `rows` samples of each client of T's lanes.
template <typename T>
class LaneSamples {
 public:
  // client(lane) says which of the clients of `samples` is in a lane.
  template <typename Client>
  LaneSamples(const Samples& samples, uint32_t rows, const Client& client) : in_levels_(samples.levels != nullptr), scale_(samples.scale) {
    const size_t size = size_t{rows} * model::kInputSize;
    for (uint32_t lane = 0; lane < kRun; ++lane) {
      const size_t number = client(lane);
      if (in_levels_) levels_.of[lane] = samples.levels + number * size;
      else inputs_.of[lane] = samples.inputs + number * size;
      targets_.of[lane] = samples.targets + number * rows * model::kTargetSize;
    }
  }

  // Writes the inputs of a sample to kInputSize places.
  void copy_input(uint32_t row, T* to) const {
    const size_t at = size_t{row} * model::kInputSize;
    if (!in_levels_) {
      interleave(inputs_, at, model::kInputSize, to);
      return;
    }
    constexpr uint32_t kBlock = 64;  // levels that become numbers at once, which fit into the L1 cache
    alignas(64) float numbers[kRun][kBlock];
    OfEach<float> from;
    for (uint32_t lane = 0; lane < kRun; ++lane) from.of[lane] = numbers[lane];
    for (uint32_t start = 0; start < model::kInputSize; start += kBlock) {
      const uint32_t count = model::kInputSize - start < kBlock ? model::kInputSize - start : kBlock;
      for (uint32_t lane = 0; lane < kRun; ++lane) numbers_of(levels_.of[lane] + at + start, scale_, count, numbers[lane]);
      interleave(from, 0, count, to + start);
    }
  }

  // Writes the targets of a sample to kTargetSize places.
  void copy_targets(uint32_t row, T* to) const { interleave(targets_, size_t{row} * model::kTargetSize, model::kTargetSize, to); }

 private:
  static constexpr uint32_t kRun = Lanes<T>::kCount;

  // Where each lane's client has its numbers.
  template <typename Number>
  struct OfEach {
    const Number* of[kRun];
  };

  // Writes `count` numbers of each lane from `at` on.
  static void interleave(const OfEach<float>& from, size_t at, uint32_t count, T* to) {
    uint32_t i = 0;
    if constexpr (kRun > 1) {
      for (; i + kRun <= count; i += kRun) {  // a square: a client in each row, an input in each column
        T square[kRun];
        for (uint32_t lane = 0; lane < kRun; ++lane) std::memcpy(square + lane, from.of[lane] + at + i, sizeof(T));
        single::transpose<kRun>(square);
        for (uint32_t n = 0; n < kRun; ++n) to[i + n] = square[n];
      }
    }
    for (; i < count; ++i) to[i] = one_of_each(from, at + i, std::make_integer_sequence<int, kRun>{});
  }

  // Made in a register: a vector whose lanes were stored one by one can only be loaded once all stores have reached the cache.
  template <int... kLane>
  static T one_of_each(const OfEach<float>& from, size_t at, std::integer_sequence<int, kLane...>) {
    return T{from.of[kLane][at]...};
  }

  const bool in_levels_;
  const float scale_;
  OfEach<uint8_t> levels_;
  OfEach<float> inputs_, targets_;
};

// The samples of a phase, if they are few and small, in their lanes: each pass copies them as they are.
template <typename T>
struct HeldSamples {
  static constexpr uint32_t kSize = model::kInputSize + model::kTargetSize, kMostRows = 256 / kSize;

  // A sample of the arena, and back to it.
  void hold(uint32_t row, const T* arena) {
    T* const sample = numbers + row * kSize;
    for (uint32_t i = 0; i < model::kInputSize; ++i) sample[i] = arena[model::kInput + i];
    for (uint32_t i = 0; i < model::kTargetSize; ++i) sample[model::kInputSize + i] = arena[model::kTarget + i];
  }
  void restore(uint32_t row, T* arena) const {
    const T* const sample = numbers + row * kSize;
    for (uint32_t i = 0; i < model::kInputSize; ++i) arena[model::kInput + i] = sample[i];
    for (uint32_t i = 0; i < model::kTargetSize; ++i) arena[model::kTarget + i] = sample[model::kInputSize + i];
  }

  alignas(64) T numbers[kMostRows > 0 ? kMostRows * kSize : 1];
};

}  // namespace tmf::sim
