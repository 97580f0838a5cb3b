// Average pooling over [height, width, channels]: the mean of each window's pixels, for several channels at a time.
#pragma once

#include "mask.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// Fixed orders of summation: y adds a window's pixels, row by row, to 0 and divides by their number, not counting pixels
// outside the image; where windows overlap, dx adds their dy / number, row by row, to 0.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct AvgPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    NoMask<T> none;
    All::for_each(Forward<NoMask<T>, T>{none, x, y});
  }

  // For x from a ReLU: also saves a mask of the pixels above 0, the only ones that pass a gradient on.
  template <typename T>
  static void forward(const T* x, T* y, T* mask) {
    MaskWriter<T> saved(mask);
    All::for_each(Forward<MaskWriter<T>, T>{saved, x, y});
    saved.finish();
  }

  template <typename T>
  static void backward(const T* dy, T* dx) {
    All::clear(dx);
    NoMask<T> none;
    All::for_each(Backward<NoMask<T>, T>{none, dy, dx});
  }

  template <typename T>
  static void backward(const T* mask, const T* dy, T* dx) {
    All::clear(dx);
    MaskReader<T> saved(mask);
    All::for_each(Backward<MaskReader<T>, T>{saved, dy, dx});
  }

 private:
  using All = Windows<Rows, Columns, kChannels, kTile>;
  using Window = typename All::Window;

  // Without a ReLU before the pool, all pixels pass a gradient on.
  template <typename T>
  struct NoMask {
    void put(const Word<T>&, int) {}
    Word<T> take(int) { return ~Word<T>{}; }
  };

  // What each pass does with a tile of kWidth channels.
  template <typename Mask, typename T>
  struct Forward {
    Mask& mask;
    const T* x;
    T* y;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      forward_tile<kWidth>(mask, x + c, y + output, row, column);
    }
  };
  template <typename Mask, typename T>
  struct Backward {
    Mask& mask;
    const T* dy;
    T* dx;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      backward_tile<kWidth>(mask, dy + output, dx + c, row, column);
    }
  };

  template <int kWidth, typename Mask, typename T>
  static void forward_tile(Mask& mask, const T* x, T* y, int row, int column) {
    const Window at(row, column);
    T sum[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) sum[t] = T{};
    for (int r = at.first_row; r < at.last_row; ++r) {
      const T* pixel = x + at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) sum[t] += pixel[t];
        mask.put(mask_where<kWidth, T>([&](int t) { return pixel[t] > T{}; }), kWidth);
      }
    }
    const float pixels = static_cast<float>(at.pixels());
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) y[t] = sum[t] / pixels;
  }

  template <int kWidth, typename Mask, typename T>
  static void backward_tile(Mask& mask, const T* dy, T* dx, int row, int column) {
    const Window at(row, column);
    const float pixels = static_cast<float>(at.pixels());
    T share[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) share[t] = dy[t] / pixels;
    for (int r = at.first_row; r < at.last_row; ++r) {
      int pixel = at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
        const Word<T> passes = mask.take(kWidth);
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) All::add_to(dx[pixel + t], masked_value(passes, t, share[t]));
      }
    }
  }
};

}  // namespace tmf::kernels
