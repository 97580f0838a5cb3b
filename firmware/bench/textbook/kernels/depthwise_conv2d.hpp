// Textbook depthwise 2-D convolution for `bench kernels` to compare with: nested loops, one sum at a time, stored gradients.
#pragma once

#include "kernels/axis.hpp"
#include "kernels/relu.hpp"
#include "kernels/row_tiles.hpp"

namespace tmf::kernels {

// Replaces core/kernels/depthwise_conv2d.hpp, to the same bits. The tiles are not used.
template <typename Rows, typename Columns, int kChannels, bool kRelu, typename Tiles>
struct DepthwiseConv2d {
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        for (int channel = 0; channel < kChannels; ++channel) {
          T sum = bias[channel] - T{};
          for (int r = 0; r < Rows::kKernel; ++r) {
            const int y_in = Rows::start(row) + r;
            if (y_in < 0 || y_in >= Rows::kIn) continue;
            for (int c = 0; c < Columns::kKernel; ++c) {
              const int x_in = Columns::start(column) + c;
              if (x_in < 0 || x_in >= Columns::kIn) continue;
              sum += x[(y_in * Columns::kIn + x_in) * kChannels + channel] * kernel[(r * Columns::kKernel + c) * kChannels + channel];
            }
          }
          y[(row * Columns::kOut + column) * kChannels + channel] = rectified<kRelu>(sum);
        }
      }
    }
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    if constexpr (kDx) input_gradient<kMask>(x, dy, dx, kernel);
    if constexpr (Update::kMoves) {
      T* const kernel_gradient = gradients<T>;
      T* const bias_gradient = gradients<T> + kKernel;
      for (int n = 0; n < kKernel + kChannels; ++n) kernel_gradient[n] = T{};
      for (int row = 0; row < Rows::kOut; ++row) {
        for (int column = 0; column < Columns::kOut; ++column) {
          for (int channel = 0; channel < kChannels; ++channel) {
            const T gradient = dy[(row * Columns::kOut + column) * kChannels + channel];
            bias_gradient[channel] += gradient;
            for (int r = 0; r < Rows::kKernel; ++r) {
              const int y_in = Rows::start(row) + r;
              if (y_in < 0 || y_in >= Rows::kIn) continue;
              for (int c = 0; c < Columns::kKernel; ++c) {
                const int x_in = Columns::start(column) + c;
                if (x_in < 0 || x_in >= Columns::kIn) continue;
                const int pixel = (y_in * Columns::kIn + x_in) * kChannels + channel;
                kernel_gradient[(r * Columns::kKernel + c) * kChannels + channel] += x[pixel] * gradient;
              }
            }
          }
        }
      }
      for (int n = 0; n < kKernel; ++n) Update::move(kernel + n, kernel[n], rate * kernel_gradient[n], rate);
      for (int c = 0; c < kChannels; ++c) Update::move(bias + c, bias[c], rate * bias_gradient[c], rate);
    }
  }

 private:
  static constexpr int kKernel = Rows::kKernel * Columns::kKernel * kChannels;
  template <typename T>
  static inline T gradients[kKernel + kChannels];

  template <bool kMask, typename T, typename W>
  static void input_gradient(const T* x, const T* dy, T* dx, const W* kernel) {
    for (int row = 0; row < Rows::kIn; ++row) {
      for (int column = 0; column < Columns::kIn; ++column) {
        for (int channel = 0; channel < kChannels; ++channel, ++x, ++dx) {
          T sum{};
          for (int r = Rows::first_element(row); r < Rows::last_element(row); r += Rows::kStride) {
            for (int c = Columns::first_element(column); c < Columns::last_element(column); c += Columns::kStride) {
              const int output = Rows::out(row, r) * Columns::kOut + Columns::out(column, c);
              sum += kernel[(r * Columns::kKernel + c) * kChannels + channel] * dy[output * kChannels + channel];
            }
          }
          *dx = masked<kMask>(sum, *x);
        }
      }
    }
  }
};

}  // namespace tmf::kernels
