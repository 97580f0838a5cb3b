// Textbook affine layer for `bench kernels` to compare with: one channel of one pixel after the other, gradients stored.
#pragma once

#include "kernels/relu.hpp"

namespace tmf::kernels {

// Replaces core/kernels/affine.hpp, to the same bits. The tile size is not used.
template <int kPixels, int kChannels, bool kRelu, int kTile>
struct Affine {
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int i = 0; i < kPixels * kChannels; ++i) {
      const T product = x[i] * kernel[i % kChannels];
      y[i] = rectified<kRelu>(T(product + bias[i % kChannels]));
    }
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    for (int c = 0; c < kChannels; ++c) of_kernel<T>[c] = of_bias<T>[c] = T{};
    for (int i = 0; i < kPixels * kChannels; ++i) {
      const T input = x[i], gradient = dy[i];
      of_kernel<T>[i % kChannels] += input * gradient;
      of_bias<T>[i % kChannels] += gradient;
      if (kDx) dx[i] = masked<kMask>(T(kernel[i % kChannels] * gradient), input);
    }
    if constexpr (Update::kMoves) {
      for (int c = 0; c < kChannels; ++c) {
        Update::move(kernel + c, kernel[c] - T{}, rate * of_kernel<T>[c], rate);
        Update::move(bias + c, bias[c], rate * of_bias<T>[c], rate);
      }
    }
  }

 private:
  template <typename T>
  static inline T of_kernel[kChannels];
  template <typename T>
  static inline T of_bias[kChannels];
};

}  // namespace tmf::kernels
