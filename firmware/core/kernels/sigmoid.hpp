// Sigmoid, element by element: 1 / (1 + e^-x).
#pragma once

#include "elementary.hpp"

namespace tmf::kernels {

// y may be stored in place of x, and dx in place of dy.
template <int kSize>
struct Sigmoid {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = logistic(x[i]);
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = dy[i] * (y[i] * (1.0f - y[i]));
  }
};

}  // namespace tmf::kernels
