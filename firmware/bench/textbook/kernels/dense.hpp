// Textbook dense layer for `bench kernels` to compare with: one sum at a time, stored gradients, then the update.
#pragma once

#include "kernels/relu.hpp"

namespace tmf::kernels {

// Replaces core/kernels/dense.hpp. The tile sizes are not used.
template <int kInputs, int kUnits, bool kRelu, int kUnitTile, int kInputTile>
struct Dense {
  // Functions of their own, so that what the compiler inlines around them does not change their cost.
  template <typename T, typename W>
  [[gnu::noinline]] static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int u = 0; u < kUnits; ++u) {
      T sum = bias[u];
      for (int i = 0; i < kInputs; ++i) sum += x[i] * kernel[i * kUnits + u];
      y[u] = rectified<kRelu>(sum);
    }
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  [[gnu::noinline]] static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    T* const kernel_gradient = gradients<T>;
    for (int i = 0; i < kInputs; ++i) {
      const T input = x[i];
      T sum = T{};
      for (int u = 0; u < kUnits; ++u) {
        const T gradient = dy[u];
        if constexpr (Update::kMoves) kernel_gradient[i * kUnits + u] = input * gradient;
        if constexpr (kDx) sum += kernel[i * kUnits + u] * gradient;
      }
      if constexpr (kDx) dx[i] = masked<kMask>(sum, input);
    }
    if constexpr (Update::kMoves) {
      for (int n = 0; n < kInputs * kUnits; ++n) Update::move(kernel + n, kernel[n], rate * kernel_gradient[n], rate);
      for (int u = 0; u < kUnits; ++u) Update::move(bias + u, bias[u], rate * dy[u], rate);
    }
  }

 private:
  template <typename T>
  static inline T gradients[kInputs * kUnits];
};

}  // namespace tmf::kernels
