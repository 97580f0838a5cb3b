// The types T that the simulation runs the kernels with: float, and a vector with a client per lane.
#pragma once

#include <cstdint>

#include "kernels/float_lanes.hpp"
#include "kernels/mask.hpp"
#include "kernels/elementary.hpp"

namespace tmf::sim {

using kernels::Lanes;

// Number of lanes: that of the machine's vector unit. More lanes work too, but are many times slower.
constexpr uint32_t kLanes = TMF_LANES;

#if TMF_LANES > 1
typedef float Floats __attribute__((vector_size(4 * TMF_LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * TMF_LANES)));
#else
using Floats = float;  // no vector unit
#endif

// A T with the number in every lane. x - 0 is x for every x; x + 0 would turn -0 into +0.
template <typename T>
T in_every_lane(float number) {
  return number - T{};
}

}  // namespace tmf::sim

#if TMF_LANES > 1
namespace tmf::kernels {

template <>
struct Elementary<sim::Floats> {
  using Floats = sim::Floats;
  static Floats exp(Floats x) { return exp_lanes<Floats, sim::Bits>(x); }
  static Floats tanh(Floats x) { return tanh_lanes<Floats, sim::Bits>(x); }
  static Floats sqrt(Floats x) { return sqrt_lanes<Floats, sim::Bits>(x); }
  static Floats expm1(Floats x) { return expm1_lanes<Floats, sim::Bits>(x); }
  static Floats log1p(Floats x) { return log1p_lanes<Floats, sim::Bits>(x); }
  static Floats erf(Floats x) { return erf_lanes<Floats, sim::Bits>(x); }
};

template <>
struct WordOf<sim::Floats> {
  using Type = sim::Bits;
};

}  // namespace tmf::kernels
#endif
