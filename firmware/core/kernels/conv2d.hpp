// 2-D convolution over [height, width, channels]: forward, gathered input gradient, and an update that never stores a gradient.
#pragma once

#include <cstddef>

namespace tmf::kernels {

// kernel [size, size, channels, filters], bias [filters]. Fixed orders of summation: y adds kernel rows, columns, then
// channels to the bias; dx adds kernel rows, columns, then filters to 0; each weight's gradient adds output pixels, row
// by row, to 0. Pixels outside the image are left out, which equals adding zeros.
template <int kHeight, int kWidth, int kChannels, int kOutHeight, int kOutWidth, int kFilters, int kSize, int kStride,
          int kPadTop, int kPadLeft, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d {
  template <typename T>
  static void forward(const T* x, const T* kernel, const T* bias, T* y) {
    for (int row = 0; row < kOutHeight; ++row) {
      for (int column = 0; column < kOutWidth; ++column, y += kFilters) {
        int f = 0;
        for (; f + kFilterTile <= kFilters; f += kFilterTile)
          forward_tile<kFilterTile>(x, kernel + f, bias + f, y + f, row, column);
        if constexpr (kFilters % kFilterTile != 0)
          forward_tile<kFilters % kFilterTile>(x, kernel + f, bias + f, y + f, row, column);
      }
    }
  }

  // dx is written when kDx, zeroed where x is 0 when kMask; kernel and bias move by -rate * gradient when kUpdate.
  template <bool kUpdate, bool kDx, bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx, T* kernel, T* bias, T rate) {
    // dx needs the weights as they were in the forward pass, so it is complete before any of them moves.
    if constexpr (kDx) input_gradient<kMask>(x, dy, dx, kernel);
    if constexpr (kUpdate) update(x, dy, kernel, bias, rate);
  }

 private:
  static constexpr int max(int a, int b) { return a > b ? a : b; }
  static constexpr int min(int a, int b) { return a < b ? a : b; }
  static constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

  template <int kTile, typename T>
  static void forward_tile(const T* x, const T* kernel, const T* bias, T* y, int row, int column) {
    const int top = row * kStride - kPadTop;
    const int left = column * kStride - kPadLeft;
    const int first_row = max(0, -top), last_row = min(kSize, kHeight - top);
    const int first_column = max(0, -left), last_column = min(kSize, kWidth - left);
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = bias[t];
    for (int r = first_row; r < last_row; ++r) {
      const T* pixel = x + ((top + r) * kWidth + left + first_column) * kChannels;
      const T* weight = kernel + (r * kSize + first_column) * kChannels * kFilters;
      // A kernel row's columns and channels are contiguous in both x and kernel: one loop walks them.
      for (int n = (last_column - first_column) * kChannels; n > 0; --n) {
        const T value = *pixel++;
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sum[t] += value * weight[t];
        weight += kFilters;
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) y[t] = kRelu ? (sum[t] > T(0) ? sum[t] : T(0)) : sum[t];
  }

  template <bool kMask, typename T>
  static void input_gradient(const T* x, const T* dy, T* dx, const T* kernel) {
    for (int row = 0; row < kHeight; ++row) {
      for (int column = 0; column < kWidth; ++column, x += kChannels, dx += kChannels) {
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
    for (int t = 0; t < kTile; ++t) sum[t] = T(0);
    for (int r = (row + kPadTop) % kStride; r < kSize; r += kStride) {
      const int out_row = (row + kPadTop - r) / kStride;
      if (row + kPadTop < r || out_row >= kOutHeight) continue;
      for (int c = (column + kPadLeft) % kStride; c < kSize; c += kStride) {
        const int out_column = (column + kPadLeft - c) / kStride;
        if (column + kPadLeft < c || out_column >= kOutWidth) continue;
        const T* gradient = dy + (out_row * kOutWidth + out_column) * kFilters;
        const T* weight = kernel + (r * kSize + c) * kChannels * kFilters;
        for (int f = 0; f < kFilters; ++f) {
          const T value = *gradient++;
#pragma GCC unroll 8
          for (int t = 0; t < kTile; ++t) sum[t] += weight[t * kFilters] * value;
          ++weight;
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) dx[t] = !kMask || x[t] > T(0) ? sum[t] : T(0);
  }

  template <typename T>
  static void update(const T* x, const T* dy, T* kernel, T* bias, T rate) {
    for (int r = 0; r < kSize; ++r) {
      // Output rows and columns whose input pixel lies inside the image for this kernel element.
      const int first_row = ceil_div(max(0, kPadTop - r), kStride);
      const int last_row = min(kOutHeight, ceil_div(max(0, kHeight + kPadTop - r), kStride));
      for (int c = 0; c < kSize; ++c) {
        const int first_column = ceil_div(max(0, kPadLeft - c), kStride);
        const int last_column = min(kOutWidth, ceil_div(max(0, kWidth + kPadLeft - c), kStride));
        for (int channel = 0; channel < kChannels; ++channel, kernel += kFilters) {
          const int start = ((first_row * kStride + r - kPadTop) * kWidth + first_column * kStride + c - kPadLeft) * kChannels + channel;
          const int rows = last_row - first_row, columns = last_column - first_column;
          const int from = (first_row * kOutWidth + first_column) * kFilters;
          int f = 0;
          for (; f + kFilterTile <= kFilters; f += kFilterTile)
            update_tile<kFilterTile>(x, start, dy + f, from, rows, columns, kernel + f, rate);
          if constexpr (kFilters % kFilterTile != 0)
            update_tile<kFilters % kFilterTile>(x, start, dy + f, from, rows, columns, kernel + f, rate);
        }
      }
    }
    int f = 0;
    for (; f + kFilterTile <= kFilters; f += kFilterTile) bias_tile<kFilterTile>(dy + f, bias + f, rate);
    if constexpr (kFilters % kFilterTile != 0) bias_tile<kFilters % kFilterTile>(dy + f, bias + f, rate);
  }

  // One kernel element's gradient for kTile filters, summed in registers and applied at once.
  template <int kTile, typename T>
  static void update_tile(const T* x, int start, const T* dy, int from, int rows, int columns, T* kernel, T rate) {
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = T(0);
    for (int row = 0; row < rows; ++row) {
      const T* pixel = x + start + row * kStride * kWidth * kChannels;
      const T* gradient = dy + from + row * kOutWidth * kFilters;
      for (int n = columns; n > 0; --n) {
        const T value = *pixel;
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sum[t] += value * gradient[t];
        pixel += kStride * kChannels;
        gradient += kFilters;
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) kernel[t] -= rate * sum[t];
  }

  template <int kTile, typename T>
  static void bias_tile(const T* dy, T* bias, T rate) {
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = T(0);
    for (int n = kOutHeight * kOutWidth; n > 0; --n, dy += kFilters) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[t] += dy[t];
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) bias[t] -= rate * sum[t];
  }
};

}  // namespace tmf::kernels
