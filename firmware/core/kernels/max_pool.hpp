// Max pooling over [height, width, channels]: the largest value of each window, channels side by side.
#pragma once

#include "bits.hpp"
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

  // Keeps in bits to which pixels gradients go: to none where y is 0 when kMask, as x came out of a ReLU.
  template <bool kMask, typename T>
  static void forward(const T* x, T* y, T* bits) {
    BitWriter<T> kept(bits);
    All::for_each([=, &kept](auto width, int row, int column, int c, int output) {
      forward_tile<width.kWidth>(x + c, y + output, row, column);
      keep_tile<width.kWidth, kMask>(x + c, y + output, kept, row, column);
    });
    kept.finish();
  }

  template <typename T>
  static void backward(const T* bits, const T* dy, T* dx) {
    All::clear(dx);
    BitReader<T> kept(bits);
    All::for_each([=, &kept](auto width, int row, int column, int c, int output) {
      backward_tile<width.kWidth>(kept, dy + output, dx + c, row, column);
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
  static void keep_tile(const T* x, const T* y, BitWriter<T>& kept, int row, int column) {
    const Window at(row, column);
    T largest[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) largest[t] = y[t];
    Word<T> unsent = answers<kWidth, T>([&](int t) {
      if constexpr (kMask) return largest[t] > T{};
      else return true;
    });
    for (int r = at.first_row; r < at.last_row; ++r) {
      const T* pixel = x + at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
        const Word<T> sent = unsent & answers<kWidth, T>([&](int t) { return pixel[t] == largest[t]; });
        unsent ^= sent;
        kept.put(sent, kWidth);
      }
    }
  }

  template <int kWidth, typename T>
  static void backward_tile(BitReader<T>& kept, const T* dy, T* dx, int row, int column) {
    const Window at(row, column);
    T gradient[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) gradient[t] = dy[t];
    for (int r = at.first_row; r < at.last_row; ++r) {
      int pixel = at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
        const Word<T> sent = kept.take(kWidth);
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) All::send(dx[pixel + t], where(sent, t, gradient[t]));
      }
    }
  }
};

}  // namespace tmf::kernels
