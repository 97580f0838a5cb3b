// The mean of each channel over all pixels of an int8 image or sequence, with another scale and zero point.
#pragma once

#include "int8_tensor.hpp"

namespace tmf::kernels {

// The factor (kMultiplier, kShift) includes the division by the number of pixels.
template <int kPixels, int kChannels, int kInputZero, int kZero, int kMultiplier, int kShift>
struct GlobalMeanInt8 {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const int8_t* from = int8_in<kPixels * kChannels>(x, lane);
      int8_t* to = int8_in<kChannels>(y, lane);
      for (int c = 0; c < kChannels; ++c) {
        int32_t sum = -kPixels * kInputZero;
        for (int i = 0; i < kPixels; ++i) sum += from[i * kChannels + c];
        to[c] = clamped<-128, 127>(scaled(sum, kMultiplier, kShift) + kZero);
      }
    }
  }
};

}  // namespace tmf::kernels
