// Hyperbolic tangent, element by element.
#pragma once

#include "elementary.hpp"

namespace tmf::kernels {

// y may be stored in place of x, and dx in place of dy.
template <int kSize>
struct Tanh {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = Elementary<T>::tanh(x[i]);
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = dy[i] * (1.0f - y[i] * y[i]);
  }
};

}  // namespace tmf::kernels
