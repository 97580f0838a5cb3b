// Average pooling over [height, width, channels]: the mean of each window's pixels, channels side by side.
#pragma once

#include "bits.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// y adds a window's pixels, row by row, to 0 and divides by their number; pixels outside the image do not count. Where
// windows overlap, dx adds their dy / number, row by row, to 0.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct AvgPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    NoBits<T> none;
    All::for_each([=, &none](auto width, int row, int column, int c, int output) {
      forward_tile<width.kWidth>(none, x + c, y + output, row, column);
    });
  }

  // Keeps in bits which pixels are above 0: x came out of a ReLU, and gradients go to those alone.
  template <typename T>
  static void forward(const T* x, T* y, T* bits) {
    BitWriter<T> kept(bits);
    All::for_each([=, &kept](auto width, int row, int column, int c, int output) {
      forward_tile<width.kWidth>(kept, x + c, y + output, row, column);
    });
    kept.finish();
  }

  template <typename T>
  static void backward(const T* dy, T* dx) {
    All::clear(dx);
    NoBits<T> none;
    All::for_each([=, &none](auto width, int row, int column, int c, int output) {
      backward_tile<width.kWidth>(none, dy + output, dx + c, row, column);
    });
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

  // Where no ReLU is below, gradients go to all pixels.
  template <typename T>
  struct NoBits {
    void put(const Word<T>&, int) {}
    Word<T> take(int) { return ~Word<T>{}; }
  };

  template <int kWidth, typename Kept, typename T>
  static void forward_tile(Kept& kept, const T* x, T* y, int row, int column) {
    const Window at(row, column);
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = T{};
    for (int r = at.first_row; r < at.last_row; ++r) {
      const T* pixel = x + at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += pixel[t];
        kept.put(answers<kWidth, T>([&](int t) { return pixel[t] > T{}; }), kWidth);
      }
    }
    const float pixels = static_cast<float>(at.pixels());
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = sum[t] / pixels;
  }

  template <int kWidth, typename Kept, typename T>
  static void backward_tile(Kept& kept, const T* dy, T* dx, int row, int column) {
    const Window at(row, column);
    const float pixels = static_cast<float>(at.pixels());
    T share[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) share[t] = dy[t] / pixels;
    for (int r = at.first_row; r < at.last_row; ++r) {
      int pixel = at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
        const Word<T> sent = kept.take(kWidth);
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) All::send(dx[pixel + t], where(sent, t, share[t]));
      }
    }
  }
};

}  // namespace tmf::kernels
