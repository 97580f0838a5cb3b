// C functions for one generated model, in float as on the boards and in double for finite differences. With STANDALONE, a
// program for the sanitizers that trains weights from standard input.
#ifdef STANDALONE
#include <cstdio>
#include <vector>
#endif

#include "kernels/mask.hpp"
#include "kernels/elementary.hpp"
#include "kernels/int8_tensor.hpp"
#include "model.hpp"

namespace tmf::kernels {
template <>
struct Elementary<double> {
  // GCC's own names: the header <cmath> would take a fifth of the compiler's time.
  static double exp(double x) { return __builtin_exp(x); }
  static double tanh(double x) { return __builtin_tanh(x); }
  static double sqrt(double x) { return __builtin_sqrt(x); }
  static double expm1(double x) { return __builtin_expm1(x); }
  static double log1p(double x) { return __builtin_log1p(x); }
  static double erf(double x) { return __builtin_erf(x); }
};
template <>
struct WordOf<double> {
  using Type = uint32_t;
};
template <>
struct Lanes<double> {
  static constexpr int kCount = 1;
  static float get(const double* place, int) { return static_cast<float>(*place); }
  static void put(double* place, int, float value) { *place = value; }
};
}  // namespace tmf::kernels

namespace {

using namespace tmf::model;

template <typename T>
void step(int variant, T* p, T* a, T rate, T limit) {
  if (variant == 0) Model<T>::step_local(p, a, rate, limit);
  if (variant == 1) Model<T>::step_global(p, a, rate, limit);
  if (variant == 2) Model<T>::step_full(p, a, rate, limit);
  if constexpr (kSumsGradients) {
    if (variant == 3) Model<T>::step_gradient(p, a, rate, limit);
  }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void sizes(uint32_t* out) {
  const uint32_t values[] = {kGlobalCount, kParameterCount, kStateCount, kInputSize, kOutputSize,
                             kTargetSize,  kArenaFloats,    kInput,      kTarget,    kOutput};
  for (size_t i = 0; i < sizeof values / sizeof *values; ++i) out[i] = values[i];
}
EXPORT void forward_float(const float* p, float* a) { Model<float>::forward(p, a); }
EXPORT void step_float(int variant, float* p, float* a, float rate, float limit) { step(variant, p, a, rate, limit); }
EXPORT void start_local_float(float* p) { Model<float>::start_local(p); }

#ifndef STANDALONE  // the program needs no double, which would take half of the compiler's time
EXPORT void forward_double(const double* p, double* a) { Model<double>::forward(p, a); }
EXPORT void step_double(int variant, double* p, double* a, double rate, double limit) { step(variant, p, a, rate, limit); }
#else
// Reads weights, rate, limit, then samples (input, target); trains each with all variants; writes the weights.
int main() {
  // Heap buffers of the exact size, so that the sanitizer finds any access beyond them.
  std::vector<float> p(kStateCount), arena(kArenaFloats), head(2), input(kInputSize), target(kTargetSize);
  if (std::fread(p.data(), 4, p.size(), stdin) != p.size() || std::fread(head.data(), 4, 2, stdin) != 2) return 2;
  while (std::fread(input.data(), 4, input.size(), stdin) == input.size()) {
    if (std::fread(target.data(), 4, target.size(), stdin) != target.size()) return 2;
    for (int variant = 0; variant < (kSumsGradients ? 4 : 3); ++variant) {
      for (size_t i = 0; i < input.size(); ++i) arena[kInput + i] = input[i];
      for (size_t i = 0; i < target.size(); ++i) arena[kTarget + i] = target[i];
      step(variant, p.data(), arena.data(), head[0], head[1]);
    }
  }
  std::fwrite(p.data(), 4, p.size(), stdout);
}
#endif
