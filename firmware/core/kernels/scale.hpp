// Scaling by a constant, element by element.
#pragma once

#include <cstdint>

#include "math.hpp"

namespace tmf::kernels {

// kFactor is the bits of a float. y may be stored in place of x, and dx in place of dy.
template <int kSize, uint32_t kFactor>
struct Scale {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] * bits_of<float>(kFactor);
  }

  template <typename T>
  static void backward(const T* dy, T* dx) {
    forward(dy, dx);
  }
};

}  // namespace tmf::kernels
