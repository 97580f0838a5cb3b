// Max pooling over [height, width, channels]: the largest value of each window, channels side by side.
#pragma once

#include "axis.hpp"
#include "relu.hpp"

namespace tmf::kernels {

// A window's gradient goes to the first of its pixels, row by row, that is the largest. Where windows overlap, dx adds
// them row by row to 0. Pixels outside the image are left out.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct MaxPool {
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

  // dx is zeroed where y is 0 when kMask: x came out of a ReLU. Where windows touch and leave nothing out, dx may be x.
  template <bool kMask, typename T>
  static void backward(const T* x, const T* y, const T* dy, T* dx) {
    if constexpr (!kTiled)
      for (int i = 0; i < Rows::kIn * Columns::kIn * kChannels; ++i) dx[i] = T{};
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, y += kChannels, dy += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile)
          backward_tile<kTile, kMask>(x + c, y + c, dy + c, dx + c, row, column);
        if constexpr (kChannels % kTile != 0)
          backward_tile<kChannels % kTile, kMask>(x + c, y + c, dy + c, dx + c, row, column);
      }
    }
  }

 private:
  static constexpr bool kTiled = Rows::kTiled && Columns::kTiled;

  template <int kWidth, typename T>
  static void forward_tile(const T* x, T* y, int row, int column) {
    const int top = Rows::start(row), left = Columns::start(column);
    const int first_row = Rows::first(row), last_row = Rows::last(row);
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    const T* first = x + ((top + first_row) * Columns::kIn + left + first_column) * kChannels;
    T largest[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) largest[t] = first[t];
    for (int r = first_row; r < last_row; ++r) {
      const T* pixel = x + ((top + r) * Columns::kIn + left + first_column) * kChannels;
      for (int n = last_column - first_column; n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) largest[t] = pixel[t] > largest[t] ? pixel[t] : largest[t];
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = largest[t];
  }

  template <int kWidth, bool kMask, typename T>
  static void backward_tile(const T* x, const T* y, const T* dy, T* dx, int row, int column) {
    const int top = Rows::start(row), left = Columns::start(column);
    const int last_row = Rows::last(row);
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    T largest[kWidth];
    T unsent[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) {
      largest[t] = y[t];
      unsent[t] = masked<kMask>(dy[t], largest[t]);
    }
    for (int r = Rows::first(row); r < last_row; ++r) {
      int at = ((top + r) * Columns::kIn + left + first_column) * kChannels;
      for (int n = last_column - first_column; n > 0; --n, at += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) {
          const T sent = x[at + t] == largest[t] ? unsent[t] : T{};
          unsent[t] = x[at + t] == largest[t] ? T{} : unsent[t];
          dx[at + t] = kTiled ? sent : dx[at + t] + sent;
        }
      }
    }
  }
};

}  // namespace tmf::kernels
