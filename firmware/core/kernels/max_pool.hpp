// Max pooling over [height, width, channels]: the largest value of each window, for several channels at a time.
#pragma once

#include "mask.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// A window's gradient goes to its largest pixel; among equals to the first, row by row. Where windows overlap, dx adds their
// gradients, row by row, to 0. Pixels outside the image are skipped.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct MaxPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    All::for_each(Forward<T>{x, y});
  }

  // Also saves a mask of the pixels that receive a gradient. With kMask, x is from a ReLU: a window with y = 0 has none.
  template <bool kMask, typename T>
  static void forward(const T* x, T* y, T* mask) {
    MaskWriter<T> saved(mask);
    All::for_each(ForwardAndMask<kMask, T>{x, y, saved});
    saved.finish();
  }

  template <typename T>
  static void backward(const T* mask, const T* dy, T* dx) {
    All::clear(dx);
    MaskReader<T> saved(mask);
    All::for_each(Backward<T>{saved, dy, dx});
  }

 private:
  using All = Windows<Rows, Columns, kChannels, kTile>;
  using Window = typename All::Window;

  // What each pass does with a tile of kWidth channels; functions with a template parameter instead of generic lambdas, so that
  // an exported library needs no more than C++11.
  template <typename T>
  struct Forward {
    const T* x;
    T* y;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      forward_tile<kWidth>(x + c, y + output, row, column);
    }
  };
  template <bool kMask, typename T>
  struct ForwardAndMask {
    const T* x;
    T* y;
    MaskWriter<T>& saved;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      forward_tile<kWidth>(x + c, y + output, row, column);
      mask_tile<kWidth, kMask>(x + c, y + output, saved, row, column);
    }
  };
  template <typename T>
  struct Backward {
    MaskReader<T>& saved;
    const T* dy;
    T* dx;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      backward_tile<kWidth>(saved, dy + output, dx + c, row, column);
    }
  };

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
  static void mask_tile(const T* x, const T* y, MaskWriter<T>& mask, int row, int column) {
    const Window at(row, column);
    T largest[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) largest[t] = y[t];
    Word<T> not_found = mask_where<kWidth, T>([&](int t) {
      if constexpr (kMask) return largest[t] > T{};
      else return true;
    });
    for (int r = at.first_row; r < at.last_row; ++r) {
      const T* pixel = x + at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
        const Word<T> receives = not_found & mask_where<kWidth, T>([&](int t) { return pixel[t] == largest[t]; });
        not_found ^= receives;
        mask.put(receives, kWidth);
      }
    }
  }

  template <int kWidth, typename T>
  static void backward_tile(MaskReader<T>& mask, const T* dy, T* dx, int row, int column) {
    const Window at(row, column);
    T gradient[kWidth];
#pragma GCC unroll 8
    for (int t = 0; t < kWidth; ++t) gradient[t] = dy[t];
    for (int r = at.first_row; r < at.last_row; ++r) {
      int pixel = at.begin(r);
      for (int n = at.columns(); n > 0; --n, pixel += kChannels) {
        const Word<T> receives = mask.take(kWidth);
#pragma GCC unroll 8
        for (int t = 0; t < kWidth; ++t) All::add_to(dx[pixel + t], masked_value(receives, t, gradient[t]));
      }
    }
  }
};

}  // namespace tmf::kernels
