// Depthwise 2-D convolution in integer arithmetic over int8 [height, width, channels]; forward only.
#pragma once

#include <kernels/products.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "axis.hpp"
#include "int8_tensor.hpp"
#include "pairs.hpp"

namespace tmf::kernels {

// Each channel of x gives kMultiplier outputs. kernel is [rows, columns, outputs]; bias, multiplier and shift are [outputs].
template <typename Rows, typename Columns, int kChannels, int kMultiplier, int kInputZero, int kZero, int kLow, int kHigh>
struct DepthwiseConv2dInt8 {
  template <typename T>
  static void forward(const T* x, const int8_t* kernel, const int32_t* bias, const int32_t* multiplier, const int8_t* shift,
                      T* y) {
    for (int lane = 0; lane < lanes_of<T>(); ++lane)
      run(int8_in<kInputs>(x, lane), Weights{kernel, bias, multiplier, shift}, int8_in<kOutputs>(y, lane));
  }

 private:
  static constexpr int kOutputChannels = kChannels * kMultiplier;
  static constexpr int kInputs = Rows::kIn * Columns::kIn * kChannels;
  static constexpr int kOutputs = Rows::kOut * Columns::kOut * kOutputChannels;
  static constexpr int kInFours = kMultiplier == 1 ? kChannels / 4 * 4 : 0;  // outputs that are computed four at a time

  struct Weights {
    const int8_t* kernel;
    const int32_t* bias;
    const int32_t* multiplier;
    const int8_t* shift;
  };

  static void run(const int8_t* x, const Weights& weights, int8_t* y) {
    using Walk = Pairs<Outputs<Rows>, Outputs<Columns>>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=](const Pair& at) {
      if (kHasSingles && at.is_single())
        pixels<1>(x, weights, y, at);
      else
        pixels<2>(x, weights, y, at);
    });
  }

  template <int kPixels>
  static void pixels(const int8_t* x, const Weights& weights, int8_t* y, const Pair& at) {
    y += (at.row * Columns::kOut + at.column) * kOutputChannels;
    for (int o = 0; o < kInFours; o += 4) four<kPixels>(x + o, weights, o, y, at);
    for (int o = kInFours; o < kOutputChannels; ++o) {
      one(x + o / kMultiplier, weights, o, y, at, 0);
      if (kPixels == 2) one(x + o / kMultiplier, weights, o, y, at, 1);
    }
  }

  static constexpr int next_x(const Pair& at) {
    return (at.down * Rows::kStride * Columns::kIn + at.right * Columns::kStride) * kChannels;
  }
  static constexpr int next_y(const Pair& at) { return (at.down * Columns::kOut + at.right) * kOutputChannels; }

  static int8_t output(int32_t sum, const Weights& weights, int o) {
    return clamped<kLow, kHigh>(scaled(sum, weights.multiplier[o], weights.shift[o]) + kZero);
  }

  template <int kPixels>
  static void four(const int8_t* x, const Weights& weights, int o, int8_t* y, const Pair& at) {
    const int top = Rows::start(at.row), left = Columns::start(at.column);
    const int last_row = Rows::last(at.row);
    const int first_column = Columns::first(at.column), last_column = Columns::last(at.column);
    int32_t sums[kPixels][4];
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[p][i] = weights.bias[o + i];
    }
    for (int r = Rows::first(at.row); r < last_row; ++r) {
      const int8_t* pixel = x + ((top + r) * Columns::kIn + left + first_column) * kChannels;
      const int8_t* weight = weights.kernel + (r * Columns::kKernel + first_column) * kOutputChannels + o;
      for (int c = first_column; c < last_column; ++c, pixel += kChannels, weight += kOutputChannels) {
        const Four factor = widened<0>(weight);
#pragma GCC unroll 2
        for (int p = 0; p < kPixels; ++p) add_each_product(sums[p], widened<-kInputZero>(pixel + p * next_x(at)), factor);
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) y[p * next_y(at) + o + i] = output(sums[p][i], weights, o + i);
    }
  }

  static void one(const int8_t* x, const Weights& weights, int o, int8_t* y, const Pair& at, int pixel) {
    const int top = Rows::start(at.row), left = Columns::start(at.column);
    int32_t sum = weights.bias[o];
    for (int r = Rows::first(at.row); r < Rows::last(at.row); ++r) {
      for (int c = Columns::first(at.column); c < Columns::last(at.column); ++c)
        sum += (x[((top + r) * Columns::kIn + left + c) * kChannels + pixel * next_x(at)] - kInputZero) *
               weights.kernel[(r * Columns::kKernel + c) * kOutputChannels + o];
    }
    y[pixel * next_y(at) + o] = output(sum, weights, o);
  }
};

}  // namespace tmf::kernels
