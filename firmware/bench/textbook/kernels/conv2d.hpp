// Textbook 2-D convolution for `bench kernels` to compare with: nested loops, stored gradients, then the update.
#pragma once

#include "kernels/axis.hpp"
#include "kernels/relu.hpp"

namespace tmf::kernels {

// Replaces core/kernels/conv2d.hpp. The tile sizes are not used.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d {
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        for (int f = 0; f < kFilters; ++f) {
          T sum = bias[f];
          for (int r = 0; r < Rows::kKernel; ++r) {
            const int y_in = Rows::start(row) + r;
            if (y_in < 0 || y_in >= Rows::kIn) continue;
            for (int c = 0; c < Columns::kKernel; ++c) {
              const int x_in = Columns::start(column) + c;
              if (x_in < 0 || x_in >= Columns::kIn) continue;
              for (int channel = 0; channel < kChannels; ++channel) {
                const int pixel = (y_in * Columns::kIn + x_in) * kChannels + channel;
                const int weight = ((r * Columns::kKernel + c) * kChannels + channel) * kFilters + f;
                sum += x[pixel] * kernel[weight];
              }
            }
          }
          y[(row * Columns::kOut + column) * kFilters + f] = rectified<kRelu>(sum);
        }
      }
    }
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    T* const kernel_gradient = gradients<T>;
    T* const bias_gradient = gradients<T> + kKernel;
    if constexpr (Update::kMoves)
      for (int n = 0; n < kKernel + kFilters; ++n) kernel_gradient[n] = T{};
    if constexpr (kDx)
      for (int n = 0; n < kInput; ++n) dx[n] = T{};
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        for (int f = 0; f < kFilters; ++f) {
          const T gradient = dy[(row * Columns::kOut + column) * kFilters + f];
          if constexpr (Update::kMoves) bias_gradient[f] += gradient;
          for (int r = 0; r < Rows::kKernel; ++r) {
            const int y_in = Rows::start(row) + r;
            if (y_in < 0 || y_in >= Rows::kIn) continue;
            for (int c = 0; c < Columns::kKernel; ++c) {
              const int x_in = Columns::start(column) + c;
              if (x_in < 0 || x_in >= Columns::kIn) continue;
              for (int channel = 0; channel < kChannels; ++channel) {
                const int pixel = (y_in * Columns::kIn + x_in) * kChannels + channel;
                const int weight = ((r * Columns::kKernel + c) * kChannels + channel) * kFilters + f;
                if constexpr (Update::kMoves) kernel_gradient[weight] += x[pixel] * gradient;
                if constexpr (kDx) dx[pixel] += kernel[weight] * gradient;
              }
            }
          }
        }
      }
    }
    if constexpr (kMask)
      for (int n = 0; n < kInput; ++n) dx[n] = masked<kMask>(dx[n], x[n]);
    if constexpr (Update::kMoves) {
      for (int n = 0; n < kKernel; ++n) Update::move(kernel + n, kernel[n], rate * kernel_gradient[n], rate);
      for (int f = 0; f < kFilters; ++f) Update::move(bias + f, bias[f], rate * bias_gradient[f], rate);
    }
  }

 private:
  static constexpr int kInput = Rows::kIn * Columns::kIn * kChannels;
  static constexpr int kKernel = Rows::kKernel * Columns::kKernel * kChannels * kFilters;
  template <typename T>
  static inline T gradients[kKernel + kFilters];
};

}  // namespace tmf::kernels
