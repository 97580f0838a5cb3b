// Hard swish, element by element: x times the hard sigmoid of x.
#pragma once

#include "hard_sigmoid.hpp"

namespace tmf::kernels {

// y may be stored in place of x where no backward reads x, and dx in place of dy.
template <int kSize>
struct HardSwish {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] * hard_logistic(x[i]);
  }

  template <typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    const T one = T{} + 1.0f;
    for (int i = 0; i < kSize; ++i) {
      const T gate = hard_logistic(x[i]);
      const T below = gate < one ? T(x[i] * kSixth) : T{};
      dx[i] = dy[i] * (gate + (gate > T{} ? below : T{}));
    }
  }
};

}  // namespace tmf::kernels
