// 2-D convolution in integer arithmetic over int8 [height, width, channels]; forward only.
#pragma once

#include <kernels/products.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "axis.hpp"
#include "int8_tensor.hpp"
#include "pixel_groups.hpp"

namespace tmf::kernels {

// kernel is [filters, rows, columns, channels]; bias, multiplier and shift are [filters]. A sum of x - kInputZero times the
// kernel is scaled by its filter's factor, kZero is added, and the result is clamped. Pixels outside the image count as zero.
template <typename Rows, typename Columns, int kChannels, int kFilters, int kInputZero, int kZero, int kLow, int kHigh>
struct Conv2dInt8 {
  template <typename T>
  static void forward(const T* x, const int8_t* kernel, const int32_t* bias, const int32_t* multiplier, const int8_t* shift,
                      T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane)
      run(int8_in<kInputs>(x, lane), Int8Weights{kernel, bias, multiplier, shift}, int8_in<kOutputs>(y, lane));
  }

 private:
  static constexpr int kInputs = Rows::kIn * Columns::kIn * kChannels;
  static constexpr int kOutputs = Rows::kOut * Columns::kOut * kFilters;
  static constexpr int kFilterSize = Rows::kKernel * Columns::kKernel * kChannels;
  static constexpr int kTile = at_most(kFilters, 2);  // two pixels by two filters: their sums and factors fit into registers

  static Int8Weights from(Int8Weights weights, int filter) {
    return Int8Weights{weights.kernel + filter * kFilterSize, weights.bias + filter, weights.multiplier + filter,
                       weights.shift + filter};
  }

  static void run(const int8_t* x, Int8Weights weights, int8_t* y) {
    using Walk = Groups<Outputs<Rows>, Outputs<Columns>, 2>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=](const Group& at) {
      if (kHasSingles && at.is_single())
        pixels<1>(x, weights, y, at);
      else
        pixels<2>(x, weights, y, at);
    });
  }

  template <int kPixels>
  static void pixels(const int8_t* x, Int8Weights weights, int8_t* y, const Group& at) {
    y += (at.row * Columns::kOut + at.column) * kFilters;
    int f = 0;
    for (; f + kTile <= kFilters; f += kTile) tile<kPixels, kTile>(x, from(weights, f), y + f, at);
    if constexpr (kFilters % kTile != 0) tile<kPixels, kFilters % kTile>(x, from(weights, f), y + f, at);
  }

  template <int kPixels, int kWidth>
  static void tile(const int8_t* x, Int8Weights weights, int8_t* y, const Group& at) {
    const int top = Rows::start(at.row), left = Columns::start(at.column);
    const int last_row = Rows::last(at.row);
    const int first_column = Columns::first(at.column), columns = Columns::last(at.column) - first_column;
    const int next_x = (at.down * Rows::kStride * Columns::kIn + at.right * Columns::kStride) * kChannels;
    const int next_y = (at.down * Columns::kOut + at.right) * kFilters;
    int32_t sum[kPixels][kWidth];
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
      for (int t = 0; t < kWidth; ++t) sum[p][t] = weights.bias[t];
    }
    for (int r = Rows::first(at.row); r < last_row; ++r) {
      // The columns and channels of a kernel row are contiguous in both x and kernel: one loop covers them.
      const int8_t* pixel = x + ((top + r) * Columns::kIn + left + first_column) * kChannels;
      const int8_t* weight = weights.kernel + (r * Columns::kKernel + first_column) * kChannels;
      int n = columns * kChannels;
      for (; n >= 4; n -= 4, pixel += 4, weight += 4) {
        Four<-kInputZero> value[kPixels];
#pragma GCC unroll 2
        for (int p = 0; p < kPixels; ++p) value[p] = widened<-kInputZero>(pixel + p * next_x);
#pragma GCC unroll 2
        for (int t = 0; t < kWidth; ++t) {
          const Four<0> factor = widened<0>(weight + t * kFilterSize);
#pragma GCC unroll 2
          for (int p = 0; p < kPixels; ++p) sum[p][t] = plus_products(sum[p][t], value[p], factor);
        }
      }
      for (; n > 0; --n, ++pixel, ++weight) {
#pragma GCC unroll 2
        for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
          for (int t = 0; t < kWidth; ++t) sum[p][t] += (pixel[p * next_x] - kInputZero) * weight[t * kFilterSize];
        }
      }
    }
#pragma GCC unroll 2
    for (int t = 0; t < kWidth; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kPixels; ++p)
        y[p * next_y + t] = clamped<kLow, kHigh>(scaled(sum[p][t], weights.multiplier[t], weights.shift[t]) + kZero);
    }
  }
};

}  // namespace tmf::kernels
