// Maximum and mean of each window over int8 [height, width, channels]; pixels outside the image are left out.
#pragma once

#include "axis.hpp"
#include "int8_tensor.hpp"

namespace tmf::kernels {

// Calls Reduce for each channel of each window, and clamps its result.
template <typename Reduce, typename Rows, typename Columns, int kChannels, int kLow, int kHigh>
struct PoolInt8 {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane)
      run(int8_in<Rows::kIn * Columns::kIn * kChannels>(x, lane), int8_in<Rows::kOut * Columns::kOut * kChannels>(y, lane));
  }

 private:
  static void run(const int8_t* x, int8_t* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        for (int c = 0; c < kChannels; ++c) *y++ = window(x + c, row, column);
      }
    }
  }

  static int8_t window(const int8_t* x, int row, int column) {
    const int first_column = Columns::first(column), last_column = Columns::last(column);
    int32_t result = Reduce::kStart;
    int pixels = 0;
    for (int r = Rows::first(row); r < Rows::last(row); ++r) {
      const int8_t* pixel = x + ((Rows::start(row) + r) * Columns::kIn + Columns::start(column) + first_column) * kChannels;
      for (int k = first_column; k < last_column; ++k, pixel += kChannels, ++pixels) result = Reduce::next(result, *pixel);
    }
    return clamped<kLow, kHigh>(Reduce::end(result, pixels));
  }
};

struct LargestInt8 {
  static constexpr int32_t kStart = -128;
  static int32_t next(int32_t result, int32_t x) { return x > result ? x : result; }
  static int32_t end(int32_t result, int) { return result; }
};

// The mean is rounded to the nearest integer, halves away from zero.
struct MeanInt8 {
  static constexpr int32_t kStart = 0;
  static int32_t next(int32_t result, int32_t x) { return result + x; }
  static int32_t end(int32_t result, int pixels) { return (result + (result > 0 ? pixels / 2 : -(pixels / 2))) / pixels; }
};

template <typename Rows, typename Columns, int kChannels, int kLow, int kHigh>
using MaxPoolInt8 = PoolInt8<LargestInt8, Rows, Columns, kChannels, kLow, kHigh>;
template <typename Rows, typename Columns, int kChannels, int kLow, int kHigh>
using AvgPoolInt8 = PoolInt8<MeanInt8, Rows, Columns, kChannels, kLow, kHigh>;

}  // namespace tmf::kernels
