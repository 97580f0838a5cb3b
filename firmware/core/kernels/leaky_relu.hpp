// Leaky ReLU, element by element: x if x > 0, else slope x.
#pragma once

#include <cstdint>

#include "math.hpp"

namespace tmf::kernels {

// kSlope is the bits of a float from 0 to 1, so y is positive where x is. y may be stored in place of x, and dx in place of dy.
template <int kSize, uint32_t kSlope>
struct LeakyRelu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] > T{} ? x[i] : x[i] * bits_of<float>(kSlope);
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = y[i] > T{} ? dy[i] : dy[i] * bits_of<float>(kSlope);
  }
};

}  // namespace tmf::kernels
