// The most multiply-adds per second that one core can do without fused ones, which the same bits everywhere rule out; and how long
// it takes at least to use each weight once in a pass.
#include <cstdint>

#include "lanes.hpp"
#include "lanes/parts.hpp"

namespace {

constexpr uint32_t kChains = 12;  // independent, as a multiplication and an addition take several cycles each
constexpr uint32_t kRows = 8, kUpdatedRows = 4, kBlock = 32;  // sums of a tile, forward and backward, and weights of a tile

}  // namespace

// Does `rounds` multiply-adds in every lane of every chain; returns how many that were, and a number that depends on all of them.
extern "C" __attribute__((visibility("default"))) uint64_t multiply_adds(uint32_t rounds, float* result) {
  using tmf::sim::Floats;
  const Floats factor = tmf::sim::in_every_lane<Floats>(0.5f), addend = tmf::sim::in_every_lane<Floats>(1.0f);
  Floats chains[kChains];
  for (uint32_t i = 0; i < kChains; ++i) chains[i] = tmf::sim::in_every_lane<Floats>(static_cast<float>(i));
  for (uint32_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
    for (uint32_t i = 0; i < kChains; ++i) chains[i] = chains[i] * factor + addend;
  Floats sum = chains[0];
  for (uint32_t i = 1; i < kChains; ++i) sum += chains[i];
  *result = tmf::kernels::Lanes<Floats>::get(&sum, 0);
  return uint64_t{rounds} * kChains * tmf::kernels::Lanes<Floats>::kCount;
}

// What dense layers do at least in `rounds` steps: a forward pass reads each of `count` weights of every lane and adds its product to
// a sum; a backward pass does so with the last `updated` ones, and subtracts a second product from each. Both are multiples of
// kBlock; `numbers` has kBlock more vectors. Between the passes, the last layer's sum waits for `waits` additions, one after the
// other, and the backward pass for this sum. The result depends on all sums.
extern "C" __attribute__((visibility("default"))) void use_weights(
    uint32_t rounds, uint32_t count, uint32_t updated, uint32_t waits, float* numbers, float* result) {
  using tmf::sim::Floats;
  auto* const weights = reinterpret_cast<Floats*>(numbers);
  Floats* const end = weights + count;  // behind which are gradients of units
  const Floats zero = tmf::sim::in_every_lane<Floats>(*result);  // the compiler cannot know it
  Floats inputs[kUpdatedRows], sums[kRows];
#pragma GCC unroll 4
  for (uint32_t i = 0; i < kUpdatedRows; ++i) inputs[i] = zero;
#pragma GCC unroll 8
  for (uint32_t i = 0; i < kRows; ++i) sums[i] = Floats{};
  for (uint32_t round = 0; round < rounds; ++round) {
    for (const Floats* from = weights; from != end; from += kRows) {
#pragma GCC unroll 8
      for (uint32_t i = 0; i < kRows; ++i) sums[i] += from[i] * inputs[0];
    }
    Floats waiting = zero;
    for (uint32_t i = 0; i < waits; ++i) waiting += weights[i] * zero;
    for (Floats* block = end - updated; block != end; block += kBlock) {
      constexpr uint32_t kUnits = kBlock / kUpdatedRows;
      for (uint32_t unit = 0; unit < kUnits; ++unit) {
        const Floats gradient = end[unit] * waiting, step = zero * gradient;
        Floats* const place = block + unit;
#pragma GCC unroll 4
        for (uint32_t row = 0; row < kUpdatedRows; ++row) {
          const Floats weight = tmf::sim::lanes::loaded(place + row * kUnits);
          sums[row] += weight * gradient;
          place[row * kUnits] = weight - step * inputs[row];
        }
      }
    }
  }
  Floats sum = sums[0];
#pragma GCC unroll 8
  for (uint32_t i = 1; i < kRows; ++i) sum += sums[i];
  *result = tmf::kernels::Lanes<Floats>::get(&sum, 0);
}
