// Softplus, element by element: log(1 + e^x).
#pragma once

#include "elementary.hpp"

namespace tmf::kernels {

// y may be stored in place of x, and dx in place of dy.
template <int kSize>
struct Softplus {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) {
      const T above = x[i] > T{} ? x[i] : T{};
      y[i] = above + Elementary<T>::log1p(Elementary<T>::exp(x[i] > T{} ? T(-x[i]) : x[i]));
    }
  }

  // The derivative is the sigmoid of x: 1 - e^-y.
  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = dy[i] * -Elementary<T>::expm1(-y[i]);
  }
};

}  // namespace tmf::kernels
