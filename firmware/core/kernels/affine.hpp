// Affine layer over [pixels, channels]: y = x kernel + bias, with kernel and bias [channels]; several channels at a time.
#pragma once

#include "relu.hpp"

namespace tmf::kernels {

// The product is rounded before the bias is added. Gradients of kernel and bias add x dy and dy over the pixels, in ascending
// order, to 0. y may be stored in place of x where no backward reads x, and dx in place of dy.
template <int kPixels, int kChannels, bool kRelu, int kTile>
struct Affine {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int n = kPixels; n > 0; --n, x += kChannels, y += kChannels) {
      for (int c = 0; c < kChannels; ++c) {
        const T product = x[c] * kernel[c];
        y[c] = rectified<kRelu>(T(product + bias[c]));
      }
    }
  }

  // Writes dx if kDx, with 0 where x is 0 if kMask (x from a ReLU). Update changes kernel and bias, or leaves them (Hold).
  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    int c = 0;
    for (; c + kTile <= kChannels; c += kTile)
      backward_tile<kTile, Update, kDx, kMask>(x + c, dy + c, dx + c, kernel + c, bias + c, rate);
    if constexpr (kChannels % kTile != 0)
      backward_tile<kChannels % kTile, Update, kDx, kMask>(x + c, dy + c, dx + c, kernel + c, bias + c, rate);
  }

 private:
  // Reads x and dy of each pixel before it writes dx, which may have the place of dy.
  template <int kWidth, typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward_tile(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    T scale[kWidth];
    T of_kernel[kWidth];
    T of_bias[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) {
      scale[t] = kernel[t] - T{};  // to every lane of T; + T{} would turn -0 into +0
      of_kernel[t] = of_bias[t] = T{};
    }
    for (int n = kPixels; n > 0; --n, x += kChannels, dy += kChannels, dx += kChannels) {
#pragma GCC unroll 8
      for (int t = 0; t < kWidth; ++t) {
        const T input = x[t];
        const T gradient = dy[t];
        if constexpr (Update::kMoves) {
          of_kernel[t] += input * gradient;
          of_bias[t] += gradient;
        }
        if constexpr (kDx) dx[t] = masked<kMask>(T(scale[t] * gradient), input);
      }
    }
    if constexpr (Update::kMoves) {
#pragma GCC unroll 8
      for (int t = 0; t < kWidth; ++t) {
        Update::move(kernel + t, scale[t], rate * of_kernel[t], rate);
        Update::move(bias + t, bias[t], rate * of_bias[t], rate);
      }
    }
  }
};

}  // namespace tmf::kernels
