// The project's own exp, tanh and square root for the kernels' scalar type: the same bits everywhere, libm's differ.
#pragma once

#include "math.hpp"

namespace tmf::kernels {

// Whoever runs kernels over another T specialises this: lanes by the functions of math.hpp, double for tests by libm.
template <typename T>
struct Elementary;

template <>
struct Elementary<float> {
  static float exp(float x) { return tmf::exp(x); }
  static float tanh(float x) { return tmf::tanh(x); }
  static float sqrt(float x) { return tmf::sqrt(x); }
};

// 1 / (1 + e^-x); 0 and 1 at the extremes, NaN for NaN.
template <typename T>
T logistic(const T& x) {
  const T one = T{} + 1.0f;
  return one / (one + Elementary<T>::exp(-x));
}

}  // namespace tmf::kernels
