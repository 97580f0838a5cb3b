// Softmax over the channels of each pixel, or over a vector: e^x divided by the sum of e^x.
#pragma once

#include "elementary.hpp"

namespace tmf::kernels {

// y may be stored in place of x, and dx in place of dy. Every sum adds channels in ascending order to 0.
template <int kPixels, int kChannels>
struct Softmax {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int pixel = 0; pixel < kPixels; ++pixel, x += kChannels, y += kChannels) {
      T largest = x[0];
      for (int c = 1; c < kChannels; ++c) largest = x[c] > largest ? x[c] : largest;
      T sum = T{};
      for (int c = 0; c < kChannels; ++c) {
        y[c] = Elementary<T>::exp(x[c] - largest);
        sum += y[c];
      }
      for (int c = 0; c < kChannels; ++c) y[c] = y[c] / sum;
    }
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int pixel = 0; pixel < kPixels; ++pixel, y += kChannels, dy += kChannels, dx += kChannels) {
      T mean = T{};
      for (int c = 0; c < kChannels; ++c) mean += y[c] * dy[c];
      for (int c = 0; c < kChannels; ++c) dx[c] = y[c] * (dy[c] - mean);
    }
  }
};

}  // namespace tmf::kernels
