// Zeros around an int8 image [height, width, channels].
#pragma once

#include <cstring>

#include "int8_tensor.hpp"

namespace tmf::kernels {

// kZero is the number that means zero.
template <int kHeight, int kWidth, int kChannels, int kTop, int kBottom, int kLeft, int kRight, int kZero>
struct PadInt8 {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane)
      run(int8_in<kHeight * kRow>(x, lane), int8_in<(kTop + kHeight + kBottom) * kPaddedRow>(y, lane));
  }

 private:
  static constexpr int kRow = kWidth * kChannels;
  static constexpr int kPaddedRow = (kLeft + kWidth + kRight) * kChannels;

  static int8_t* zeros(int8_t* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = kZero;
    return to + count;
  }

  static void run(const int8_t* x, int8_t* y) {
    y = zeros(y, kTop * kPaddedRow);
    for (int row = 0; row < kHeight; ++row, x += kRow) {
      y = zeros(y, kLeft * kChannels);
      std::memcpy(y, x, kRow);
      y = zeros(y + kRow, kRight * kChannels);
    }
    zeros(y, kBottom * kPaddedRow);
  }
};

}  // namespace tmf::kernels
