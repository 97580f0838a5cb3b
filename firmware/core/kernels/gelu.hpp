// GELU, element by element: x times the normal distribution's cumulative function, exact or with tanh.
#pragma once

#include "elementary.hpp"

namespace tmf::kernels {

// y may be stored in place of x where no backward reads x, and dx in place of dy.
template <int kSize>
struct Gelu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] * below(x[i]);
  }

  template <typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) {
      const T density = Elementary<T>::exp(x[i] * x[i] * -0.5f) * 0x1.988454p-2f;  // 1 / sqrt(2 pi)
      dx[i] = dy[i] * (below(x[i]) + x[i] * density);
    }
  }

 private:
  // The probability of a value below x.
  template <typename T>
  static T below(const T& x) {
    return (Elementary<T>::erf(x * 0x1.6a09e6p-1f) + 1.0f) * 0.5f;  // 1 / sqrt(2)
  }
};

// The approximation x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
template <int kSize>
struct GeluTanh {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] * 0.5f * (bent(x[i]) + 1.0f);
  }

  template <typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) {
      const T tanh = bent(x[i]);
      const T slope = (x[i] * x[i] * (3.0f * kCubic) + 1.0f) * kRoot;
      dx[i] = dy[i] * 0.5f * ((tanh + 1.0f) + x[i] * (1.0f - tanh * tanh) * slope);
    }
  }

 private:
  static constexpr float kRoot = 0x1.988454p-1f;  // sqrt(2 / pi)
  static constexpr float kCubic = 0.044715f;

  template <typename T>
  static T bent(const T& x) {
    return Elementary<T>::tanh((x * x * kCubic + 1.0f) * x * kRoot);
  }
};

}  // namespace tmf::kernels
