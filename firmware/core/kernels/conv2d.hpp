// 2-D convolution over [height, width, channels]: forward, gathered input gradient, and an update that never stores a gradient.
#pragma once

#include "axis.hpp"
#include "bias.hpp"
#include "relu.hpp"

namespace tmf::kernels {

// kernel [rows, columns, channels, filters], bias [filters]; a sequence is an image of one row. Fixed orders of summation:
// y adds kernel rows, columns, then channels to the bias; dx adds kernel rows, columns, then filters to 0; each weight's
// gradient adds output pixels, row by row, to 0. Pixels outside the image are left out, which equals adding zeros.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d {
  // W is T, or float where T is a vector and the weights, being frozen, are the same for all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, y += kFilters) {
        int f = 0;
        for (; f + kFilterTile <= kFilters; f += kFilterTile)
          forward_tile<kFilterTile>(x, kernel + f, bias + f, y + f, row, column);
        if constexpr (kFilters % kFilterTile != 0)
          forward_tile<kFilters % kFilterTile>(x, kernel + f, bias + f, y + f, row, column);
      }
    }
  }

  // dx is written when kDx, zeroed where x is 0 when kMask; Update moves kernel and bias, or holds them.
  template <typename Update, bool kDx, bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx, T* kernel, T* bias, T rate) {
    // dx needs the weights as they were in the forward pass, so it is complete before any of them moves.
    if constexpr (kDx) input_gradient<kMask>(x, dy, dx, kernel);
    if constexpr (Update::kMoves) {
      update<Update>(x, dy, kernel, rate);
      move_bias<kFilterTile, Update, Rows::kOut * Columns::kOut, kFilters>(dy, bias, rate);
    }
  }

 private:
  template <int kTile, typename T, typename W>
  static void forward_tile(const T* x, const W* kernel, const W* bias, T* y, int row, int column) {
    const int top = Rows::start(row), left = Columns::start(column);
    const int last_row = Rows::last(row);
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = bias[t] - T{};  // any number as T, to the bit: + would lose a -0
    for (int r = Rows::first(row); r < last_row; ++r) {
      const T* pixel = x + ((top + r) * Columns::kIn + left + first_column) * kChannels;
      const W* weight = kernel + (r * Columns::kKernel + first_column) * kChannels * kFilters;
      // A kernel row's columns and channels are contiguous in both x and kernel: one loop walks them.
      for (int n = (last_column - first_column) * kChannels; n > 0; --n) {
        const T value = *pixel++;
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sum[t] += value * weight[t];
        weight += kFilters;
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) y[t] = rectified<kRelu>(sum[t]);
  }

  template <bool kMask, typename T>
  static void input_gradient(const T* x, const T* dy, T* dx, const T* kernel) {
    for (int row = 0; row < Rows::kIn; ++row) {
      for (int column = 0; column < Columns::kIn; ++column, x += kChannels, dx += kChannels) {
        int c = 0;
        for (; c + kChannelTile <= kChannels; c += kChannelTile)
          gradient_tile<kChannelTile, kMask>(x + c, dy, dx + c, kernel + c * kFilters, row, column);
        if constexpr (kChannels % kChannelTile != 0)
          gradient_tile<kChannels % kChannelTile, kMask>(x + c, dy, dx + c, kernel + c * kFilters, row, column);
      }
    }
  }

  // Gathers what every output pixel that saw this input pixel sends back.
  template <int kTile, bool kMask, typename T>
  static void gradient_tile(const T* x, const T* dy, T* dx, const T* kernel, int row, int column) {
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = T{};
    for (int r = Rows::first_element(row); r < Rows::kKernel; r += Rows::kStride) {
      const unsigned out_row = Rows::out(row, r);
      if (out_row >= Rows::kOut) continue;
      for (int c = Columns::first_element(column); c < Columns::kKernel; c += Columns::kStride) {
        const unsigned out_column = Columns::out(column, c);
        if (out_column >= Columns::kOut) continue;
        const T* gradient = dy + (out_row * Columns::kOut + out_column) * kFilters;
        const T* weight = kernel + (r * Columns::kKernel + c) * kChannels * kFilters;
        for (int f = 0; f < kFilters; ++f) {
          const T value = *gradient++;
#pragma GCC unroll 8
          for (int t = 0; t < kTile; ++t) sum[t] += weight[t * kFilters] * value;
          ++weight;
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) dx[t] = masked<kMask>(sum[t], x[t]);
  }

  template <typename Update, typename T>
  static void update(const T* x, const T* dy, T* kernel, T rate) {
    for (int r = 0; r < Rows::kKernel; ++r) {
      const int first_row = Rows::first_out(r), rows = Rows::last_out(r) - first_row;
      for (int c = 0; c < Columns::kKernel; ++c) {
        const int first_column = Columns::first_out(c), columns = Columns::last_out(c) - first_column;
        const int at = (Rows::start(first_row) + r) * Columns::kIn + Columns::start(first_column) + c;
        const int from = (first_row * Columns::kOut + first_column) * kFilters;
        for (int channel = 0; channel < kChannels; ++channel, kernel += kFilters) {
          const int start = at * kChannels + channel;
          int f = 0;
          for (; f + kFilterTile <= kFilters; f += kFilterTile)
            update_tile<kFilterTile, Update>(x, start, dy + f, from, rows, columns, kernel + f, rate);
          if constexpr (kFilters % kFilterTile != 0)
            update_tile<kFilters % kFilterTile, Update>(x, start, dy + f, from, rows, columns, kernel + f, rate);
        }
      }
    }
  }

  // One kernel element's gradient for kTile filters, summed in registers and applied at once.
  template <int kTile, typename Update, typename T>
  static void update_tile(const T* x, int start, const T* dy, int from, int rows, int columns, T* kernel, T rate) {
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = T{};
    for (int row = 0; row < rows; ++row) {
      const T* pixel = x + start + row * Rows::kStride * Columns::kIn * kChannels;
      const T* gradient = dy + from + row * Columns::kOut * kFilters;
      for (int n = columns; n > 0; --n) {
        const T value = *pixel;
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sum[t] += value * gradient[t];
        pixel += Columns::kStride * kChannels;
        gradient += kFilters;
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) Update::move(kernel + t, kernel[t], rate * sum[t], rate);
  }
};

}  // namespace tmf::kernels
