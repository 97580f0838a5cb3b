// The sum of two int8 tensors, element by element, each with its own scale and zero point.
#pragma once

#include "int8_tensor.hpp"

namespace tmf::kernels {

// A scale as a factor: its multiplier and its shift.
template <int kNumber, int kPlaces>
struct Factor {
  static int32_t times(int32_t x) { return scaled(x, kNumber, kPlaces); }
};

// x and other are first brought to a common scale, with 20 more bits. y may be x or other.
template <int kSize, int kInputZero, int kOtherZero, int kZero, typename InputFactor, typename OtherFactor,
          typename OutputFactor, int kLow, int kHigh>
struct AddInt8 {
  template <typename T>
  static void forward(const T* x, const T* other, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const int8_t* first = int8_in<kSize>(x, lane);
      const int8_t* second = int8_in<kSize>(other, lane);
      int8_t* to = int8_in<kSize>(y, lane);
      for (int i = 0; i < kSize; ++i) {
        const int32_t sum = InputFactor::times((first[i] - kInputZero) * kMoreBits) +
                            OtherFactor::times((second[i] - kOtherZero) * kMoreBits);
        to[i] = clamped<kLow, kHigh>(OutputFactor::times(sum) + kZero);
      }
    }
  }

 private:
  static constexpr int32_t kMoreBits = 1 << 20;
};

}  // namespace tmf::kernels
