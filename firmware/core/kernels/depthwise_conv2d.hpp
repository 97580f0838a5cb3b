// Depthwise 2-D convolution over [height, width, channels]: each channel has its own kernel; several channels at a time.
#pragma once

#include "axis.hpp"
#include "bias.hpp"
#include "relu.hpp"

namespace tmf::kernels {

// kernel is [rows, columns, channels], bias [channels]. Fixed orders of summation: y adds kernel rows, then columns to the
// bias; dx adds kernel rows, then columns to 0; each weight's gradient adds output pixels, row by row, to 0. Pixels
// outside the image are skipped, which equals adding zeros.
template <typename Rows, typename Columns, int kChannels, bool kRelu, int kTile>
struct DepthwiseConv2d {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, y += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile) forward_tile<kTile>(x + c, kernel + c, bias + c, y + c, row, column);
        if constexpr (kChannels % kTile != 0)
          forward_tile<kChannels % kTile>(x + c, kernel + c, bias + c, y + c, row, column);
      }
    }
  }

  // Writes dx if kDx, with 0 where x is 0 if kMask (x from a ReLU). Update changes kernel and bias, or leaves them (Hold).
  template <typename Update, bool kDx, bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx, T* kernel, T* bias, T rate) {
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx) input_gradient<kMask>(x, dy, dx, kernel);
    if constexpr (Update::kMoves) {
      update<Update>(x, dy, kernel, rate);
      move_bias<kTile, Update, Rows::kOut * Columns::kOut, kChannels>(dy, bias, rate);
    }
  }

 private:
  template <int kWidth, typename T, typename W>
  static void forward_tile(const T* x, const W* kernel, const W* bias, T* y, int row, int column) {
    const int top = Rows::start(row), left = Columns::start(column);
    const int last_row = Rows::last(row);
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = bias[t] - T{};  // to every lane of T; + T{} would turn -0 into +0
    for (int r = Rows::first(row); r < last_row; ++r) {
      const T* pixel = x + ((top + r) * Columns::kIn + left + first_column) * kChannels;
      const W* weight = kernel + (r * Columns::kKernel + first_column) * kChannels;
      for (int n = last_column - first_column; n > 0; --n, pixel += kChannels, weight += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += pixel[t] * weight[t];
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = rectified<kRelu>(sum[t]);
  }

  template <bool kMask, typename T>
  static void input_gradient(const T* x, const T* dy, T* dx, const T* kernel) {
    for (int row = 0; row < Rows::kIn; ++row) {
      for (int column = 0; column < Columns::kIn; ++column, x += kChannels, dx += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile)
          gradient_tile<kTile, kMask>(x + c, dy + c, dx + c, kernel + c, row, column);
        if constexpr (kChannels % kTile != 0)
          gradient_tile<kChannels % kTile, kMask>(x + c, dy + c, dx + c, kernel + c, row, column);
      }
    }
  }

  // Sums the gradients from all output pixels that read this input pixel.
  template <int kWidth, bool kMask, typename T>
  static void gradient_tile(const T* x, const T* dy, T* dx, const T* kernel, int row, int column) {
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = T{};
    for (int r = Rows::first_element(row); r < Rows::last_element(row); r += Rows::kStride) {
      const int out_row = Rows::out(row, r);
      for (int c = Columns::first_element(column); c < Columns::last_element(column); c += Columns::kStride) {
        const int out_column = Columns::out(column, c);
        const T* gradient = dy + (out_row * Columns::kOut + out_column) * kChannels;
        const T* weight = kernel + (r * Columns::kKernel + c) * kChannels;
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += weight[t] * gradient[t];
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) dx[t] = masked<kMask>(sum[t], x[t]);
  }

  template <typename Update, typename T>
  static void update(const T* x, const T* dy, T* kernel, T rate) {
    for (int r = 0; r < Rows::kKernel; ++r) {
      const int first_row = Rows::first_out(r), rows = Rows::last_out(r) - first_row;
      for (int column = 0; column < Columns::kKernel; ++column, kernel += kChannels) {
        const int first_column = Columns::first_out(column), columns = Columns::last_out(column) - first_column;
        const int at = (Rows::start(first_row) + r) * Columns::kIn + Columns::start(first_column) + column;
        const int from = first_row * Columns::kOut + first_column;
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile)
          update_tile<kTile, Update>(x, at * kChannels + c, dy, from * kChannels + c, rows, columns, kernel + c, rate);
        if constexpr (kChannels % kTile != 0)
          update_tile<kChannels % kTile, Update>(x, at * kChannels + c, dy, from * kChannels + c, rows, columns, kernel + c,
                                                 rate);
      }
    }
  }

  // Sums the gradient of one kernel element, for kWidth channels, in registers and applies it immediately.
  template <int kWidth, typename Update, typename T>
  static void update_tile(const T* x, int start, const T* dy, int from, int rows, int columns, T* kernel, T rate) {
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = T{};
    for (int row = 0; row < rows; ++row) {
      const T* pixel = x + start + row * Rows::kStride * Columns::kIn * kChannels;
      const T* gradient = dy + from + row * Columns::kOut * kChannels;
      for (int n = columns; n > 0; --n, pixel += Columns::kStride * kChannels, gradient += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += pixel[t] * gradient[t];
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) Update::move(kernel + t, kernel[t], rate * sum[t], rate);
  }
};

}  // namespace tmf::kernels
