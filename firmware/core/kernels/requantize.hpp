// int8 numbers with another scale and zero point, clamped: also a ReLU and a ReLU6 of int8 numbers.
#pragma once

#include "int8_tensor.hpp"

namespace tmf::kernels {

// y may be x.
template <int kSize, int kInputZero, int kZero, int kMultiplier, int kShift, int kLow, int kHigh>
struct Requantize {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const int8_t* from = int8_in<kSize>(x, lane);
      int8_t* to = int8_in<kSize>(y, lane);
      for (int i = 0; i < kSize; ++i)
        to[i] = clamped<kLow, kHigh>(scaled(from[i] - kInputZero, kMultiplier, kShift) + kZero);
    }
  }
};

}  // namespace tmf::kernels
