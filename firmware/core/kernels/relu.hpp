// ReLU: fused into a layer's output and, backward, into the next layer's dx; a separate op where neither is possible.
#pragma once

#include <cstdint>

#include "math.hpp"

namespace tmf::kernels {

// A layer's output: max(0, sum) if kRelu, else the sum.
template <bool kRelu, typename T>
T rectified(const T& sum) {
  if constexpr (kRelu) return sum > T{} ? sum : T{};
  return sum;
}

// The gradient before the ReLU, if x is the output of a ReLU (kMask); otherwise the gradient itself.
template <bool kMask, typename T>
T masked(const T& gradient, const T& x) {
  if constexpr (kMask) return x > T{} ? gradient : T{};
  return gradient;
}

// The same for the x at a place. A ReLU's output is 0 or above 0, never -0 or NaN: a float is compared as an integer, which
// takes fewer instructions.
template <bool kMask, typename T>
T masked_by(const T& gradient, const T* x) {
  return masked<kMask>(gradient, *x);
}
template <bool kMask>
float masked_by(const float& gradient, const float* x) {
  if constexpr (!kMask) return gradient;
  return bits_of<uint32_t>(*x) != 0 ? gradient : 0.0f;
}

// y may be stored in place of x, and dx in place of dy.
template <int kSize>
struct Relu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = rectified<true>(x[i]);
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = masked<true>(dy[i], y[i]);
  }
};

}  // namespace tmf::kernels
