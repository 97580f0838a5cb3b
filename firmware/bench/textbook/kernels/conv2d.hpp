// 2-D convolution as a textbook has it, for bench kernels to compare with: nested loops, gradients stored, update after.
#pragma once

#include <cstddef>

namespace tmf::kernels {

// Takes the place of core/kernels/conv2d.hpp; the tile sizes, which only say how that one works, are not used.
template <int kHeight, int kWidth, int kChannels, int kOutHeight, int kOutWidth, int kFilters, int kSize, int kStride,
          int kPadTop, int kPadLeft, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d {
  template <typename T>
  static void forward(const T* x, const T* kernel, const T* bias, T* y) {
    for (int row = 0; row < kOutHeight; ++row) {
      for (int column = 0; column < kOutWidth; ++column) {
        for (int f = 0; f < kFilters; ++f) {
          T sum = bias[f];
          for (int r = 0; r < kSize; ++r) {
            const int y_in = row * kStride + r - kPadTop;
            if (y_in < 0 || y_in >= kHeight) continue;
            for (int c = 0; c < kSize; ++c) {
              const int x_in = column * kStride + c - kPadLeft;
              if (x_in < 0 || x_in >= kWidth) continue;
              for (int channel = 0; channel < kChannels; ++channel)
                sum += x[(y_in * kWidth + x_in) * kChannels + channel] * kernel[((r * kSize + c) * kChannels + channel) * kFilters + f];
            }
          }
          y[(row * kOutWidth + column) * kFilters + f] = kRelu && !(sum > T(0)) ? T(0) : sum;
        }
      }
    }
  }

  template <bool kUpdate, bool kDx, bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx, T* kernel, T* bias, T rate) {
    T* const kernel_gradient = gradients<T>;
    T* const bias_gradient = gradients<T> + kKernel;
    if constexpr (kUpdate)
      for (int n = 0; n < kKernel + kFilters; ++n) kernel_gradient[n] = T(0);
    if constexpr (kDx)
      for (int n = 0; n < kInput; ++n) dx[n] = T(0);
    for (int row = 0; row < kOutHeight; ++row) {
      for (int column = 0; column < kOutWidth; ++column) {
        for (int f = 0; f < kFilters; ++f) {
          const T gradient = dy[(row * kOutWidth + column) * kFilters + f];
          if constexpr (kUpdate) bias_gradient[f] += gradient;
          for (int r = 0; r < kSize; ++r) {
            const int y_in = row * kStride + r - kPadTop;
            if (y_in < 0 || y_in >= kHeight) continue;
            for (int c = 0; c < kSize; ++c) {
              const int x_in = column * kStride + c - kPadLeft;
              if (x_in < 0 || x_in >= kWidth) continue;
              for (int channel = 0; channel < kChannels; ++channel) {
                const int pixel = (y_in * kWidth + x_in) * kChannels + channel;
                const int weight = ((r * kSize + c) * kChannels + channel) * kFilters + f;
                if constexpr (kUpdate) kernel_gradient[weight] += x[pixel] * gradient;
                if constexpr (kDx) dx[pixel] += kernel[weight] * gradient;
              }
            }
          }
        }
      }
    }
    if constexpr (kMask)
      for (int n = 0; n < kInput; ++n)
        if (!(x[n] > T(0))) dx[n] = T(0);
    if constexpr (kUpdate) {
      for (int n = 0; n < kKernel; ++n) kernel[n] -= rate * kernel_gradient[n];
      for (int f = 0; f < kFilters; ++f) bias[f] -= rate * bias_gradient[f];
    }
  }

 private:
  static constexpr int kInput = kHeight * kWidth * kChannels;
  static constexpr int kKernel = kSize * kSize * kChannels * kFilters;
  template <typename T>
  static inline T gradients[kKernel + kFilters];
};

}  // namespace tmf::kernels
