// The most multiply-adds per second that one core can do without fused ones, which the same bits everywhere rule out; and how long
// it takes at least to use each weight once in a pass.
#include <cstdint>

#include "lanes.hpp"

namespace {

constexpr uint32_t kChains = 12;  // independent, as a multiplication and an addition take several cycles each

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
// a sum; a backward pass does so with the last `updated` ones and changes them. Both are multiples of kChains. The result depends
// on all sums.
extern "C" __attribute__((visibility("default"))) void use_weights(
    uint32_t rounds, uint32_t count, uint32_t updated, float* numbers, float* result) {
  using tmf::sim::Floats;
  auto* const weights = reinterpret_cast<Floats*>(numbers);
  const Floats input = tmf::sim::in_every_lane<Floats>(0.5f), change = tmf::sim::in_every_lane<Floats>(0x1p-20f);
  Floats sums[kChains];
  for (uint32_t i = 0; i < kChains; ++i) sums[i] = Floats{};
  for (uint32_t round = 0; round < rounds; ++round) {
    for (uint32_t at = 0; at < count; at += kChains)
#pragma GCC unroll 12
      for (uint32_t i = 0; i < kChains; ++i) sums[i] += weights[at + i] * input;
    for (uint32_t at = count - updated; at < count; at += kChains)
#pragma GCC unroll 12
      for (uint32_t i = 0; i < kChains; ++i) {
        const Floats weight = weights[at + i];
        sums[i] += weight * input;
        weights[at + i] = weight - change * input;
      }
  }
  Floats sum = sums[0];
  for (uint32_t i = 1; i < kChains; ++i) sum += sums[i];
  *result = tmf::kernels::Lanes<Floats>::get(&sum, 0);
}
