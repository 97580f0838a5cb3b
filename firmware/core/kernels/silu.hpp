// SiLU (swish), element by element: x / (1 + e^-x).
#pragma once

#include "elementary.hpp"

namespace tmf::kernels {

// y may be stored in place of x where no backward reads x, and dx in place of dy.
template <int kSize>
struct Silu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] * logistic(x[i]);
  }

  template <typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) {
      const T gate = logistic(x[i]);
      dx[i] = dy[i] * (gate + x[i] * gate * (1.0f - gate));
    }
  }
};

}  // namespace tmf::kernels
