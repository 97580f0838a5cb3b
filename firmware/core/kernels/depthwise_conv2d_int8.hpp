// Depthwise 2-D convolution in integer arithmetic over int8 [height, width, channels]; forward only.
#pragma once

#include <kernels/products.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "axis.hpp"
#include "int8_tensor.hpp"

namespace tmf::kernels {

// Each channel of x gives kMultiplier outputs. kernel is [rows, columns, outputs]; bias, multiplier and shift are [outputs].
template <typename Rows, typename Columns, int kChannels, int kMultiplier, int kInputZero, int kZero, int kLow, int kHigh>
struct DepthwiseConv2dInt8 {
  template <typename T>
  static void forward(const T* x, const int8_t* kernel, const int32_t* bias, const int32_t* multiplier, const int8_t* shift,
                      T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane)
      run(int8_in<kInputs>(x, lane), Int8Weights{kernel, bias, multiplier, shift}, int8_in<kOutputs>(y, lane));
  }

 private:
  static constexpr int kOutputChannels = kChannels * kMultiplier;
  static constexpr int kInputs = Rows::kIn * Columns::kIn * kChannels;
  static constexpr int kOutputs = Rows::kOut * Columns::kOut * kOutputChannels;
  static constexpr int kInFours = kMultiplier == 1 ? kChannels / 4 * 4 : 0;  // outputs that are computed four at a time

  // The part of a window that lies on the image.
  struct Window {
    Window(const int8_t* x, int row, int column)
        : first_row(Rows::first(row)),
          last_row(Rows::last(row)),
          first_column(Columns::first(column)),
          last_column(Columns::last(column)),
          image(x + (Rows::start(row) * Columns::kIn + Columns::start(column)) * kChannels) {}

    int first_row, last_row, first_column, last_column;
    const int8_t* image;  // at the window's first element, which may lie outside

    const int8_t* pixel(int r, int c) const { return image + (r * Columns::kIn + c) * kChannels; }
  };

  static void run(const int8_t* x, Int8Weights weights, int8_t* y) {
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, y += kOutputChannels) {
        const Window window(x, row, column);
        for (int o = 0; o < kInFours; o += 4) four(window, weights, o, y + o);
        for (int o = kInFours; o < kOutputChannels; ++o) one(window, weights, o, y + o);
      }
    }
  }

  static void four(Window window, Int8Weights weights, int o, int8_t* y) {
    int32_t sums[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sums[i] = weights.bias[o + i];
    for (int r = window.first_row; r < window.last_row; ++r) {
      const int8_t* pixel = window.pixel(r, window.first_column) + o;
      const int8_t* weight = weights.kernel + (r * Columns::kKernel + window.first_column) * kOutputChannels + o;
      for (int c = window.first_column; c < window.last_column; ++c, pixel += kChannels, weight += kOutputChannels)
        add_each_product(sums, widened<-kInputZero>(pixel), widened<0>(weight));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) y[i] = output(sums[i], weights, o + i);
  }

  static void one(Window window, Int8Weights weights, int o, int8_t* y) {
    int32_t sum = weights.bias[o];
    for (int r = window.first_row; r < window.last_row; ++r) {
      for (int c = window.first_column; c < window.last_column; ++c)
        sum += (window.pixel(r, c)[o / kMultiplier] - kInputZero) *
               weights.kernel[(r * Columns::kKernel + c) * kOutputChannels + o];
    }
    *y = output(sum, weights, o);
  }

  static int8_t output(int32_t sum, Int8Weights weights, int o) {
    return clamped<kLow, kHigh>(scaled(sum, weights.multiplier[o], weights.shift[o]) + kZero);
  }
};

}  // namespace tmf::kernels
