// exp, tanh and others for the kernels' scalar type, from math.hpp: libm's results differ between machines.
#pragma once

#include "math.hpp"

namespace tmf::kernels {

// To be specialised for any other T: the simulation does so for vectors, the tests for double.
template <typename T>
struct Elementary;

template <>
struct Elementary<float> {
  static float exp(float x) { return tmf::exp(x); }
  static float tanh(float x) { return tmf::tanh(x); }
  static float sqrt(float x) { return tmf::sqrt(x); }
  static float expm1(float x) { return tmf::expm1(x); }
  static float log1p(float x) { return tmf::log1p(x); }
  static float erf(float x) { return tmf::erf(x); }
};

// 1 / (1 + e^-x); 0 for very negative x, 1 for very large x, NaN for NaN.
template <typename T>
T logistic(const T& x) {
  const T one = T{} + 1.0f;
  return one / (one + Elementary<T>::exp(-x));
}

}  // namespace tmf::kernels
