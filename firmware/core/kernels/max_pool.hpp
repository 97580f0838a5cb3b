// Max pooling over [height, width, channels]: the largest value of each window, channels side by side.
#pragma once

#include "relu.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// A window's gradient goes to the first of its pixels, row by row, that is the largest. Where windows overlap, dx adds
// them row by row to 0. Pixels outside the image are left out.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct MaxPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    All::for_each([=](auto width, int row, int column, int c, int output) {
      forward_tile<width.kWidth>(x + c, y + output, row, column);
    });
  }

  // dx is zeroed where y is 0 when kMask: x came out of a ReLU. Where windows touch and leave nothing out, dx may be x.
  template <bool kMask, typename T>
  static void backward(const T* x, const T* y, const T* dy, T* dx) {
    All::clear(dx);
    All::for_each([=](auto width, int row, int column, int c, int output) {
      backward_tile<width.kWidth, kMask>(x + c, y + output, dy + output, dx + c, row, column);
    });
  }

 private:
  using All = Windows<Rows, Columns, kChannels, kTile>;
  using Window = typename All::Window;

  template <int kWidth, typename T>
  static void forward_tile(const T* x, T* y, int row, int column) {
    const Window at(row, column);
    const T* first = x + at.begin(at.first_row);
    T largest[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) largest[t] = first[t];
    for (int r = at.first_row; r < at.last_row; ++r) {
      const T* pixel = x + at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) largest[t] = pixel[t] > largest[t] ? pixel[t] : largest[t];
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = largest[t];
  }

  template <int kWidth, bool kMask, typename T>
  static void backward_tile(const T* x, const T* y, const T* dy, T* dx, int row, int column) {
    const Window at(row, column);
    T largest[kWidth];
    T unsent[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) {
      largest[t] = y[t];
      unsent[t] = masked<kMask>(dy[t], largest[t]);
    }
    for (int r = at.first_row; r < at.last_row; ++r) {
      int pixel = at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) {
          const T sent = x[pixel + t] == largest[t] ? unsent[t] : T{};
          unsent[t] = x[pixel + t] == largest[t] ? T{} : unsent[t];
          All::send(dx[pixel + t], sent);
        }
      }
    }
  }
};

}  // namespace tmf::kernels
