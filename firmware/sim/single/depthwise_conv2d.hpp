// Depthwise 2-D convolution of one client: every pass computes channels side by side.
#pragma once

#include "bias.hpp"
#include "kernels/depthwise_conv2d.hpp"
#include "places.hpp"

namespace tmf::sim::single {

// Of kernels/depthwise_conv2d.hpp, with its orders of summation.
template <typename Rows, typename Columns, int kChannels, bool kRelu>
struct DepthwiseConv2d {
  static constexpr bool kFits = true;  // needs no memory of its own

  static void forward(const float* x, const float* kernel, const float* bias, float* y) {
    for (int row = 0; row < Rows::kOut; ++row)
      in_groups<OutputsOf<Columns>, kMostPixels>([=](auto pixels, int column) {
        in_runs<kChannels, most_runs(pixels())>([=](auto width, auto runs, int c) {
          float* const place = y + (row * Columns::kOut + column) * kChannels + c;
          forward_tile<pixels(), width(), runs()>(x + c, kernel + c, bias + c, place, row, column);
        });
      });
  }

  template <typename Update, bool kDx, bool kMask, typename W>
  static void backward(const float* x, const float* dy, float* dx, W* kernel, W* bias, float rate) {
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx) {
      for (int row = 0; row < Rows::kIn; ++row)
        in_groups<InputsOf<Columns>, kMostPixels>([=](auto pixels, int column) {
          in_runs<kChannels, most_runs(pixels())>([=](auto width, auto runs, int c) {
            const int at = (row * Columns::kIn + column) * kChannels + c;
            gradient_tile<kMask, pixels(), width(), runs()>(x + at, dy + c, dx + at, kernel + c, row, column);
          });
        });
    }
    if constexpr (Update::kMoves) {
      update<Update>(x, dy, Update::template writable<float>(kernel), rate);
      move_bias<Update, Rows::kOut * Columns::kOut, kChannels>(dy, Update::template writable<float>(bias), rate);
    }
  }

 private:
  // Sums of a tile, which fit into the vector registers.
  static constexpr int kMostPixels = kChannels < 2 * TMF_LANES ? 10 : 6;
  static constexpr int most_runs(int pixels) { return pixels > 6 ? 1 : pixels > 2 ? 2 : pixels > 1 ? 4 : 8; }

  // sum[p][t] += run t of the values, which are `apart` for neighbouring p, times that of the weights.
  template <int kPixels, int kWidth, int kRuns>
  [[gnu::always_inline]] static void add_products(
      Run<kWidth> (&sum)[kPixels][kRuns], const float* values, int apart, const float* weights) {
#pragma GCC unroll 8
    for (int t = 0; t < kRuns; ++t) {
      const Run<kWidth> weight = load<kWidth>(weights + t * kWidth);
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p) sum[p][t] += load<kWidth>(values + p * apart + t * kWidth) * weight;
    }
  }

  // Sums of neighbouring output pixels and adjacent channels.
  template <int kPixels, int kWidth, int kRuns>
  static void forward_tile(const float* x, const float* kernel, const float* bias, float* y, int row, int column) {
    const int first_column = Columns::first(column), last_column = Columns::last(column), last_row = Rows::last(row);
    Run<kWidth> sum[kPixels][kRuns];
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) sum[p][t] = load<kWidth>(bias + t * kWidth);
    }
    for (int r = Rows::first(row); r < last_row; ++r) {
      const float* value = x + ((Rows::start(row) + r) * Columns::kIn + Columns::start(column) + first_column) * kChannels;
      const float* weight = kernel + (r * Columns::kKernel + first_column) * kChannels;
      for (int n = last_column - first_column; n > 0; --n, value += kChannels, weight += kChannels)
        add_products<kPixels, kWidth, kRuns>(sum, value, Columns::kStride * kChannels, weight);
    }
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p, y += kChannels) {
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) store(y + t * kWidth, kernels::rectified<kRelu>(sum[p][t]));
    }
  }

  // Sums of input pixels a stride apart and adjacent channels.
  template <bool kMask, int kPixels, int kWidth, int kRuns>
  static void gradient_tile(const float* x, const float* dy, float* dx, const float* kernel, int row, int column) {
    const int last_row = Rows::last_element(row), last_column = Columns::last_element(column);
    Run<kWidth> sum[kPixels][kRuns]{};
    for (int r = Rows::first_element(row); r < last_row; r += Rows::kStride) {
      for (int c = Columns::first_element(column); c < last_column; c += Columns::kStride) {
        const float* const gradient = dy + (Rows::out(row, r) * Columns::kOut + Columns::out(column, c)) * kChannels;
        add_products<kPixels, kWidth, kRuns>(sum, gradient, kChannels, kernel + (r * Columns::kKernel + c) * kChannels);
      }
    }
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
      const int at = p * Columns::kStride * kChannels;
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t)
        store(dx + at + t * kWidth, kernels::masked<kMask>(sum[p][t], load<kWidth>(x + at + t * kWidth)));
    }
  }

  // The kernel elements whose gradients are summed at the same time: all, or the first ones of a row.
  static constexpr bool kSumsAll = Rows::kKernel * Columns::kKernel <= 10;
  static constexpr int kTileRows = kSumsAll ? Rows::kKernel : 1;
  static constexpr int kTileColumns = Columns::kKernel < 10 ? Columns::kKernel : 10;

  template <typename Update>
  static void update(const float* x, const float* dy, float* kernel, float rate) {
    in_runs<kChannels, 1>([=](auto width, auto, int channel) {
      for (int r = 0; r < Rows::kKernel; r += kTileRows)
        in_tiles<1, Columns::kKernel, kTileColumns>(
            [=](auto, auto columns, int column) {
              float* const place = kernel + (r * Columns::kKernel + column) * kChannels + channel;
              update_tile<Update, columns(), width()>(x + channel, dy + channel, place, r, column, rate);
            },
            0);
    });
  }

  // Sums of the gradients of kTileRows rows from r and kCount columns from `column` on, over all output pixels.
  template <typename Update, int kCount, int kWidth>
  static void update_tile(const float* x, const float* dy, float* kernel, int r, int column, float rate) {
    // The outputs that use some, and those that use all rows and columns of the tile.
    const int top = Rows::first_out(r + kTileRows - 1), bottom = Rows::last_out(r);
    const int left = Columns::first_out(column + kCount - 1), right = Columns::last_out(column);
    const int all_top = Rows::first_out(r), all_bottom = Rows::last_out(r + kTileRows - 1);
    const int all_left = Columns::first_out(column), all_right = Columns::last_out(column + kCount - 1);
    Run<kWidth> sum[kTileRows][kCount]{};
    for (int row = top; row < bottom; ++row) {
      const float* const line = x + ((Rows::start(row) + r) * Columns::kIn + Columns::start(0) + column) * kChannels;
      const bool all = row >= all_top && row < all_bottom;
      for (int out = left; out < right; ++out) {
        const float* const value = line + out * Columns::kStride * kChannels;
        const Run<kWidth> gradient = load<kWidth>(dy + (row * Columns::kOut + out) * kChannels);
        const bool whole = all && out >= all_left && out < all_right;
#pragma GCC unroll 10
        for (int i = 0; i < kTileRows; ++i) {
          if (!whole && (row < Rows::first_out(r + i) || row >= Rows::last_out(r + i))) continue;
#pragma GCC unroll 10
          for (int n = 0; n < kCount; ++n) {
            if (!whole && (out < Columns::first_out(column + n) || out >= Columns::last_out(column + n))) continue;
            sum[i][n] += load<kWidth>(value + (i * Columns::kIn + n) * kChannels) * gradient;
          }
        }
      }
    }
    const Run<kWidth> rates = filled<kWidth>(rate);
#pragma GCC unroll 10
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 10
      for (int n = 0; n < kCount; ++n)
        move_run<Update, kWidth>(kernel + (i * Columns::kKernel + n) * kChannels, rates * sum[i][n], rates);
    }
  }
};

}  // namespace tmf::sim::single
