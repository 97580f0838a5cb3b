// Average pooling over [height, width, channels]: the mean of each window's pixels, channels side by side.
#pragma once

#include "axis.hpp"
#include "relu.hpp"

namespace tmf::kernels {

// y adds a window's pixels, row by row, to 0 and divides by their number; pixels outside the image do not count. Where
// windows overlap, dx adds their dy / number, row by row, to 0.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct AvgPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, y += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile) forward_tile<kTile>(x + c, y + c, row, column);
        if constexpr (kChannels % kTile != 0) forward_tile<kChannels % kTile>(x + c, y + c, row, column);
      }
    }
  }

  // dx is zeroed where x is 0 when kMask: x came out of a ReLU. Where windows touch and leave nothing out, dx may be x.
  template <bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    if constexpr (!kTiled)
      for (int i = 0; i < Rows::kIn * Columns::kIn * kChannels; ++i) dx[i] = T{};
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, dy += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile) backward_tile<kTile, kMask>(x + c, dy + c, dx + c, row, column);
        if constexpr (kChannels % kTile != 0)
          backward_tile<kChannels % kTile, kMask>(x + c, dy + c, dx + c, row, column);
      }
    }
  }

 private:
  static constexpr bool kTiled = Rows::kTiled && Columns::kTiled;

  static float count(int row, int column) {
    return static_cast<float>((Rows::last(row) - Rows::first(row)) * (Columns::last(column) - Columns::first(column)));
  }

  template <int kWidth, typename T>
  static void forward_tile(const T* x, T* y, int row, int column) {
    const int top = Rows::start(row), left = Columns::start(column);
    const int last_row = Rows::last(row);
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = T{};
    for (int r = Rows::first(row); r < last_row; ++r) {
      const T* pixel = x + ((top + r) * Columns::kIn + left + first_column) * kChannels;
      for (int n = last_column - first_column; n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += pixel[t];
      }
    }
    const float pixels = count(row, column);
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = sum[t] / pixels;
  }

  template <int kWidth, bool kMask, typename T>
  static void backward_tile(const T* x, const T* dy, T* dx, int row, int column) {
    const int top = Rows::start(row), left = Columns::start(column);
    const int last_row = Rows::last(row);
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    const float pixels = count(row, column);
    T share[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) share[t] = dy[t] / pixels;
    for (int r = Rows::first(row); r < last_row; ++r) {
      int at = ((top + r) * Columns::kIn + left + first_column) * kChannels;
      for (int n = last_column - first_column; n > 0; --n, at += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) {
          const T sent = masked<kMask>(share[t], x[at + t]);
          dx[at + t] = kTiled ? sent : dx[at + t] + sent;
        }
      }
    }
  }
};

}  // namespace tmf::kernels
