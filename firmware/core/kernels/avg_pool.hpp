// Average pooling over [height, width, channels]: the mean of each window's pixels, for several channels or windows at a time.
#pragma once

#include <kernels/adjacent.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "mask.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// Fixed orders of summation: y adds a window's pixels, row by row, to 0 and divides by their number, not counting pixels
// outside the image; dx adds the dy / number of its windows, row by row, to 0.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct AvgPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    All::for_each(Forward<T>{x, y});
  }

  // The same as forward, for an image that is there a band of rows at a time: source.rows(out) says where its row 0 would be, if
  // the rows that Source::kBand rows of outputs from `out` on read are there.
  template <typename Source, typename T>
  static void forward_from(Source& source, T* y) {
    for (int from = 0; from < Rows::kOut; from += Source::kBand)
      All::for_each(Forward<T>{source.rows(from), y}, SomeRows<Rows>{from, at_most(from + Source::kBand, Rows::kOut)});
  }

  // For x from a ReLU: also saves which pixels are above 0, the only ones that pass a gradient on.
  template <typename T>
  static void forward(const T* x, T* y, T* mask) {
    forward(x, y);
    save_positive<All::kInputs>(x, mask);
  }

  template <typename T>
  static void backward(const T* dy, T* dx) {
    if constexpr (!All::kTiled) clear<All::kInputs>(dx);
    All::for_each(Backward<T>{dy, dx});
  }

  template <typename T>
  static void backward(const T* mask, const T* dy, T* dx) {
    backward(dy, dx);
    keep_positive<All::kInputs>(mask, dx);
  }

 private:
  using All = Windows<Rows, Columns, kChannels, kTile>;

  // What one row of kWindows windows side by side covers, in pixels, and whether pixel i of it is in window t.
  static constexpr int span(int windows) { return (windows - 1) * Columns::kStride + Columns::kKernel; }
  static constexpr bool in(int i, int t) { return i >= t * Columns::kStride && i < t * Columns::kStride + Columns::kKernel; }

  template <typename T>
  struct Forward {
    const T* x;
    T* y;

    template <int kWindows, int kWidth>
    [[gnu::always_inline]] void whole(const OnImage& rows, int input, int output) const {
      T sums[kWindows * kWidth];
#pragma GCC unroll 8
      for (int i = 0; i < kWindows * kWidth; ++i) sums[i] = T{};
      const T* row = x + input;
      for (int r = 0; r < rows.count; ++r, row += All::kRow) add_row<kWindows, kWidth>(sums, row);
#pragma GCC unroll 8
      for (int i = 0; i < kWindows * kWidth; ++i) y[output + i] = sums[i] / static_cast<float>(rows.count * Columns::kKernel);
    }

    template <int kWidth>
    void part(const OnImage& rows, const OnImage& columns, int input, int output) const {
      T sums[kWidth];
#pragma GCC unroll 8
      for (int i = 0; i < kWidth; ++i) sums[i] = T{};
      const T* row = x + input;
      for (int r = 0; r < rows.count; ++r, row += All::kRow) {
        const T* pixel = row;
        for (int n = columns.count; n > 0; --n, pixel += kChannels) add_adjacent<kWidth>(sums, pixel);
      }
      const float pixels = static_cast<float>(rows.count * columns.count);
#pragma GCC unroll 8
      for (int i = 0; i < kWidth; ++i) y[output + i] = sums[i] / pixels;
    }
  };

  template <int kWindows, int kWidth, typename T>
  static void add_row(T* sums, const T* row) {
    if constexpr (kWindows == 1) {
      for (int i = 0; i < Columns::kKernel; ++i) add_adjacent<kWidth>(sums, row + i * kChannels);
    } else {
      constexpr int kSpan = span(kWindows);
#pragma GCC unroll 64
      for (int i = 0; i < kSpan; ++i) {
#pragma GCC unroll 8
        for (int c = 0; c < kWidth; ++c) {
          const T value = row[i * kChannels + c];
#pragma GCC unroll 8
          for (int t = 0; t < kWindows; ++t) {
            if (in(i, t)) sums[t * kWidth + c] += value;
          }
        }
      }
    }
  }

  template <typename T>
  struct Backward {
    const T* dy;
    T* dx;

    template <int kWindows, int kWidth>
    [[gnu::always_inline]] void whole(const OnImage& rows, int input, int output) const {
      T shares[kWindows * kWidth];
#pragma GCC unroll 8
      for (int i = 0; i < kWindows * kWidth; ++i) shares[i] = dy[output + i] / static_cast<float>(rows.count * Columns::kKernel);
      T* row = dx + input;
      for (int r = 0; r < rows.count; ++r, row += All::kRow) give_row<kWindows, kWidth>(shares, row);
    }

    template <int kWidth>
    void part(const OnImage& rows, const OnImage& columns, int input, int output) const {
      const float pixels = static_cast<float>(rows.count * columns.count);
      T shares[kWidth];
#pragma GCC unroll 8
      for (int i = 0; i < kWidth; ++i) shares[i] = dy[output + i] / pixels;
      T* row = dx + input;
      for (int r = 0; r < rows.count; ++r, row += All::kRow) {
        T* pixel = row;
        for (int n = columns.count; n > 0; --n, pixel += kChannels) give<kWidth>(shares, pixel);
      }
    }
  };

  // Adds to dx, or to 0 where a pixel has no other window.
  template <int kWidth, typename T>
  static void give(const T* shares, T* pixel) {
#pragma GCC unroll 8
    for (int c = 0; c < kWidth; ++c) pixel[c] = (All::kApart ? T{} : pixel[c]) + shares[c];
  }

  template <int kWindows, int kWidth, typename T>
  static void give_row(const T* shares, T* row) {
    if constexpr (kWindows == 1) {
      for (int i = 0; i < Columns::kKernel; ++i) give<kWidth>(shares, row + i * kChannels);
    } else {
      constexpr int kSpan = span(kWindows);
#pragma GCC unroll 64
      for (int i = 0; i < kSpan; ++i) {
        if (Columns::kStride > Columns::kKernel && i % Columns::kStride >= Columns::kKernel) continue;  // in no window
#pragma GCC unroll 8
        for (int c = 0; c < kWidth; ++c) {
          T sum = All::kApart ? T{} : row[i * kChannels + c];
#pragma GCC unroll 8
          for (int t = 0; t < kWindows; ++t) {
            if (in(i, t)) sum += shares[t * kWidth + c];
          }
          row[i * kChannels + c] = sum;
        }
      }
    }
  }
};

}  // namespace tmf::kernels
