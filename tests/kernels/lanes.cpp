// C functions for one generated model over GCC vectors with a client per lane, as in the simulation; weights and arena are
// [i][lane].
#include "kernels/mask.hpp"
#include "kernels/elementary.hpp"
#include "model.hpp"

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

namespace tmf::kernels {
template <>
struct Elementary<Floats> {
  static Floats exp(Floats x) { return exp_lanes<Floats, Bits>(x); }
  static Floats tanh(Floats x) { return tanh_lanes<Floats, Bits>(x); }
  static Floats sqrt(Floats x) { return sqrt_lanes<Floats, Bits>(x); }
  static Floats expm1(Floats x) { return expm1_lanes<Floats, Bits>(x); }
  static Floats log1p(Floats x) { return log1p_lanes<Floats, Bits>(x); }
  static Floats erf(Floats x) { return erf_lanes<Floats, Bits>(x); }
};
template <>
struct WordOf<Floats> {
  using Type = Bits;
};
}  // namespace tmf::kernels

using Model = tmf::model::Model<Floats>;

template <typename T>
void sum_gradient(T* p, T* a, T rate, T limit) {
  if constexpr (tmf::model::kSumsGradients) tmf::model::Model<T>::step_gradient(p, a, rate, limit);
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void start_local(void* weights) { Model::start_local(static_cast<Floats*>(weights)); }

EXPORT void forward(const void* weights, void* arena) {
  Model::forward(static_cast<const Floats*>(weights), static_cast<Floats*>(arena));
}

EXPORT void step(int variant, void* weights, void* arena, const float* rates, float limit) {
  Floats rate;
  __builtin_memcpy(&rate, rates, sizeof rate);
  auto* p = static_cast<Floats*>(weights);
  auto* a = static_cast<Floats*>(arena);
  if (variant == 0) Model::step_local(p, a, rate, Floats{} + limit);
  if (variant == 1) Model::step_global(p, a, rate, Floats{} + limit);
  if (variant == 2) Model::step_full(p, a, rate, Floats{} + limit);
  if (variant == 3) sum_gradient(p, a, rate, Floats{} + limit);
}
