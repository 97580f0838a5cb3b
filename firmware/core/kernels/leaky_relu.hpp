// Leaky ReLU: x where it is positive, slope x elsewhere, element by element.
#pragma once

#include <cstdint>

#include "math.hpp"

namespace tmf::kernels {

// y and x may be one place, and so may dx and dy: as kSlope, the bits of a float, is positive, y has the sign of x.
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
