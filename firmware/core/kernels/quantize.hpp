// float32 numbers to int8 and back: x = scale * (q - zero point).
#pragma once

#include <cstdint>

#include "elementary.hpp"
#include "int8_tensor.hpp"

namespace tmf::kernels {

// kScale is the bits of a float. Halves are rounded away from zero, numbers beyond int8 become the nearest one.
template <int kSize, uint32_t kScale, int kZero>
struct Quantize {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      int8_t* to = int8_in<kSize>(y, lane);
      for (int i = 0; i < kSize; ++i) to[i] = of(Lanes<T>::get(x + i, lane));
    }
  }
  static int8_t of(float x) { return clamped<-128, 127>(nearest(x / bits_of<float>(kScale)) + kZero); }

 private:
  static constexpr float kFar = 1024.0f;  // beyond int8 for any zero point

  static int32_t nearest(float x) {
    const float near = x > kFar ? kFar : x > -kFar ? x : -kFar;
    const int32_t whole = static_cast<int32_t>(near);  // towards zero
    const float rest = near - static_cast<float>(whole);
    return whole + (rest >= 0.5f ? 1 : rest <= -0.5f ? -1 : 0);
  }
};

// The same for an input that stays bytes: x is its scale, then the bytes.
template <int kSize, uint32_t kScale, int kZero>
struct QuantizeOfBytes {
  static void forward(const float* x, float* y) {
    const float scale = *x;
    const uint8_t* from = reinterpret_cast<const uint8_t*>(x + 1);
    int8_t* to = int8_in<kSize>(y, 0);
    for (int i = 0; i < kSize; ++i) to[i] = Quantize<kSize, kScale, kZero>::of(static_cast<float>(from[i]) * scale);
  }
};

template <int kSize, uint32_t kScale, int kInputZero>
struct Dequantize {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const int8_t* from = int8_in<kSize>(x, lane);
      for (int i = 0; i < kSize; ++i)
        Lanes<T>::put(y + i, lane, bits_of<float>(kScale) * static_cast<float>(from[i] - kInputZero));
    }
  }
};

}  // namespace tmf::kernels
