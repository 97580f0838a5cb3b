// Average pooling over [height, width, channels]: the mean of each window's pixels, channels side by side.
#pragma once

#include "relu.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// y adds a window's pixels, row by row, to 0 and divides by their number; pixels outside the image do not count. Where
// windows overlap, dx adds their dy / number, row by row, to 0.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct AvgPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    All::for_each([=](auto width, int row, int column, int c, int output) {
      forward_tile<width.kWidth>(x + c, y + output, row, column);
    });
  }

  // dx is zeroed where x is 0 when kMask: x came out of a ReLU. Where windows touch and leave nothing out, dx may be x.
  template <bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    All::clear(dx);
    All::for_each([=](auto width, int row, int column, int c, int output) {
      backward_tile<width.kWidth, kMask>(x + c, dy + output, dx + c, row, column);
    });
  }

 private:
  using All = Windows<Rows, Columns, kChannels, kTile>;
  using Window = typename All::Window;

  template <int kWidth, typename T>
  static void forward_tile(const T* x, T* y, int row, int column) {
    const Window at(row, column);
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = T{};
    for (int r = at.first_row; r < at.last_row; ++r) {
      const T* pixel = x + at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += pixel[t];
      }
    }
    const float pixels = static_cast<float>(at.pixels());
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = sum[t] / pixels;
  }

  template <int kWidth, bool kMask, typename T>
  static void backward_tile(const T* x, const T* dy, T* dx, int row, int column) {
    const Window at(row, column);
    const float pixels = static_cast<float>(at.pixels());
    T share[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) share[t] = dy[t] / pixels;
    for (int r = at.first_row; r < at.last_row; ++r) {
      int pixel = at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) All::send(dx[pixel + t], masked<kMask>(share[t], x[pixel + t]));
      }
    }
  }
};

}  // namespace tmf::kernels
