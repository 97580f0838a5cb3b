// The most multiply-adds per second that one core can do without fused ones, which the same bits everywhere rule out.
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
