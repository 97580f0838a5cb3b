// Dense layer as a textbook has it, for bench kernels to compare with: one sum at a time, gradients stored, update after.
#pragma once

#include <cstddef>

namespace tmf::kernels {

// Takes the place of core/kernels/dense.hpp; the tile sizes, which only say how that one works, are not used.
template <int kInputs, int kUnits, bool kRelu, int kUnitTile, int kInputTile>
struct Dense {
  template <typename T>
  static void forward(const T* x, const T* kernel, const T* bias, T* y) {
    for (int u = 0; u < kUnits; ++u) {
      T sum = bias[u];
      for (int i = 0; i < kInputs; ++i) sum += x[i] * kernel[i * kUnits + u];
      y[u] = kRelu && !(sum > T(0)) ? T(0) : sum;
    }
  }

  template <bool kUpdate, bool kDx, bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx, T* kernel, T* bias, T rate) {
    T* const kernel_gradient = gradients<T>;
    for (int i = 0; i < kInputs; ++i) {
      const T input = x[i];
      T sum = T(0);
      for (int u = 0; u < kUnits; ++u) {
        const T gradient = dy[u];
        if constexpr (kUpdate) kernel_gradient[i * kUnits + u] = input * gradient;
        if constexpr (kDx) sum += kernel[i * kUnits + u] * gradient;
      }
      if constexpr (kDx) dx[i] = kMask && !(input > T(0)) ? T(0) : sum;
    }
    if constexpr (kUpdate) {
      for (int n = 0; n < kInputs * kUnits; ++n) kernel[n] -= rate * kernel_gradient[n];
      for (int u = 0; u < kUnits; ++u) bias[u] -= rate * dy[u];
    }
  }

 private:
  template <typename T>
  static inline T gradients[kInputs * kUnits];
};

}  // namespace tmf::kernels
