// 2-D convolution of one client: forward, update and bias compute filters side by side, the input gradient channels.
#pragma once

#include "bias.hpp"
#include "kernels/conv2d.hpp"
#include "places.hpp"

namespace tmf::sim::single {

constexpr int kGradientRuns = 2;  // of channels, the gradients of which are summed at the same time

// Of kernels/conv2d.hpp, with its orders of summation.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu>
struct Conv2d {
  // Whether the weights of a tile of channels, all of them, fit onto a thread's stack.
  static constexpr bool kFits = size_t{4} * Rows::kKernel * Columns::kKernel * kFilters * kGradientRuns * TMF_LANES <= (1 << 18);

  static void forward(const float* x, const float* kernel, const float* bias, float* y) {
    for (int row = 0; row < Rows::kOut; ++row)
      in_groups<OutputsOf<Columns>, most_pixels(kFilters)>([=](auto pixels, int column) {
        in_runs<kFilters, most_runs(pixels())>([=](auto width, auto runs, int f) {
          float* const place = y + (row * Columns::kOut + column) * kFilters + f;
          forward_tile<pixels(), width(), runs()>(x, kernel + f, bias + f, place, row, column);
        });
      });
  }

  template <typename Update, bool kDx, bool kMask, typename W>
  static void backward(const float* x, const float* dy, float* dx, W* kernel, W* bias, float rate) {
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx) input_gradient<kMask>(x, dy, dx, kernel);
    if constexpr (Update::kMoves) {
      update<Update>(x, dy, Update::template writable<float>(kernel), rate);
      move_bias<Update, Rows::kOut * Columns::kOut, kFilters>(dy, Update::template writable<float>(bias), rate);
    }
  }

 private:
  // Sums of a tile, which fit into the vector registers together with their factors.
  static constexpr int most_pixels(int sums) { return sums < 2 * TMF_LANES ? 10 : 6; }
  static constexpr int most_runs(int pixels) { return pixels > 6 ? 1 : pixels > 2 ? 2 : pixels > 1 ? 4 : 8; }

  // Sums of neighbouring output pixels and adjacent filters.
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
      const float* weight = kernel + (r * Columns::kKernel + first_column) * kChannels * kFilters;
      // The columns and channels of a kernel row are contiguous in both x and kernel: one loop covers them.
      for (int n = (last_column - first_column) * kChannels; n > 0; --n, ++value, weight += kFilters)
        add_products<kPixels, kWidth, kRuns>(sum, value, Columns::kStride * kChannels, weight);
    }
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p, y += kFilters) {
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) store(y + t * kWidth, kernels::rectified<kRelu>(sum[p][t]));
    }
  }

  // sum[p][t] += values[p * apart] * run t of the factors.
  template <int kValues, int kWidth, int kRuns>
  [[gnu::always_inline]] static void add_products(
      Run<kWidth> (&sum)[kValues][kRuns], const float* values, int apart, const float* factors) {
    Run<kWidth> factor[kRuns];
#pragma GCC unroll 8
    for (int t = 0; t < kRuns; ++t) factor[t] = load<kWidth>(factors + t * kWidth);
#pragma GCC unroll 16
    for (int p = 0; p < kValues; ++p) {
      const Run<kWidth> value = filled<kWidth>(values[p * apart]);
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) sum[p][t] += value * factor[t];
    }
  }

  template <bool kMask>
  static void input_gradient(const float* x, const float* dy, float* dx, const float* kernel) {
    in_runs<kChannels, kGradientRuns>([=](auto width, auto runs, int channel) {
      constexpr int kTile = width() * runs();
      alignas(64) float weights[Rows::kKernel * Columns::kKernel * kFilters * kTile];  // [row, column, filter, channel]
      for (int element = 0; element < Rows::kKernel * Columns::kKernel; ++element)
        for (int t = 0; t < kTile; t += width())
          put_transposed<width(), kTile>(
              kernel + (element * kChannels + channel + t) * kFilters, weights + element * kFilters * kTile + t);
      for (int row = 0; row < Rows::kIn; ++row)
        in_groups<InputsOf<Columns>, most_pixels(kTile)>([&](auto pixels, int column) {
          const int at = (row * Columns::kIn + column) * kChannels + channel;
          gradient_tile<kMask, pixels(), width(), runs()>(x + at, dy, dx + at, weights, row, column);
        });
    });
  }

  // Copies kWidth rows of kFilters weights as columns of rows of kTile weights.
  template <int kWidth, int kTile>
  static void put_transposed(const float* from, float* to) {
    int f = 0;
    if constexpr (kWidth > 1) {
      for (; f + kWidth <= kFilters; f += kWidth) {
        Run<kWidth> square[kWidth];
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i) square[i] = load<kWidth>(from + i * kFilters + f);
        transpose<kWidth>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i) store(to + (f + i) * kTile, square[i]);
      }
    }
    if constexpr (kFilters % kWidth != 0 || kWidth == 1) {
      for (; f < kFilters; ++f)
        for (int i = 0; i < kWidth; ++i) to[f * kTile + i] = from[i * kFilters + f];
    }
  }

  // Sums of input pixels a stride apart and adjacent channels.
  template <bool kMask, int kPixels, int kWidth, int kRuns>
  static void gradient_tile(const float* x, const float* dy, float* dx, const float* weights, int row, int column) {
    const int last_row = Rows::last_element(row), last_column = Columns::last_element(column);
    Run<kWidth> sum[kPixels][kRuns]{};
    for (int r = Rows::first_element(row); r < last_row; r += Rows::kStride) {
      for (int c = Columns::first_element(column); c < last_column; c += Columns::kStride) {
        const float* gradient = dy + (Rows::out(row, r) * Columns::kOut + Columns::out(column, c)) * kFilters;
        const float* weight = weights + (r * Columns::kKernel + c) * kFilters * kWidth * kRuns;
        for (int f = 0; f < kFilters; ++f, ++gradient, weight += kWidth * kRuns)
          add_products<kPixels, kWidth, kRuns>(sum, gradient, kFilters, weight);
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

  // The columns and channels of a kernel row are its elements: adjacent in both x and kernel. If they are few, a tile has several
  // rows.
  static constexpr int kElements = Columns::kKernel * kChannels;
  static constexpr int kTileElements = kElements < 4 ? kElements : kFilters < 2 * TMF_LANES ? 8 : 4;
  static constexpr int kTileRows = kElements <= 3 && Rows::kKernel * kElements <= 9 ? Rows::kKernel : 1;

  template <typename Update>
  static void update(const float* x, const float* dy, float* kernel, float rate) {
    in_runs<kFilters, kTileElements * kTileRows <= 4 ? 2 : 1>([=](auto width, auto runs, int f) {
      for (int r = 0; r < Rows::kKernel; r += kTileRows)
        in_tiles<1, kElements, (kTileElements < kElements ? kTileElements : kElements)>(
            [=](auto, auto elements, int element) {
              float* const place = kernel + (r * kElements + element) * kFilters + f;
              update_tile<Update, elements(), width(), runs()>(x, dy + f, place, r, element, rate);
            },
            0);
    });
  }

  // Sums of the gradients of adjacent elements from (r, element) on and of adjacent filters, over all output pixels.
  template <typename Update, int kCount, int kWidth, int kRuns>
  static void update_tile(const float* x, const float* dy, float* kernel, int r, int element, float rate) {
    const int column = element / kChannels, last = (element + kCount - 1) / kChannels;
    // The outputs that use some, and those that use all rows and columns of the tile.
    const int top = Rows::first_out(r + kTileRows - 1), bottom = Rows::last_out(r);
    const int left = Columns::first_out(last), right = Columns::last_out(column);
    const int all_top = Rows::first_out(r), all_bottom = Rows::last_out(r + kTileRows - 1);
    const int all_left = Columns::first_out(column), all_right = Columns::last_out(last);
    Run<kWidth> sum[kTileRows][kCount][kRuns]{};
    for (int row = top; row < bottom; ++row) {
      const float* const line = x + ((Rows::start(row) + r) * Columns::kIn + Columns::start(0)) * kChannels + element;
      const float* const gradient = dy + row * Columns::kOut * kFilters;
      const bool all = row >= all_top && row < all_bottom;
      for (int out = left; out < right; ++out) {
        const float* const value = line + out * Columns::kStride * kChannels;
        const bool whole = all && out >= all_left && out < all_right;
#pragma GCC unroll 4
        for (int i = 0; i < kTileRows; ++i) {
          if (whole) {
            add_products<kCount, kWidth, kRuns>(sum[i], value + i * Columns::kIn * kChannels, 1, gradient + out * kFilters);
          } else if (row >= Rows::first_out(r + i) && row < Rows::last_out(r + i)) {
#pragma GCC unroll 8
            for (int n = 0; n < kCount; ++n) {
              const int c = (element + n) / kChannels;
              if (out < Columns::first_out(c) || out >= Columns::last_out(c)) continue;
              const Run<kWidth> input = filled<kWidth>(value[i * Columns::kIn * kChannels + n]);
#pragma GCC unroll 8
              for (int t = 0; t < kRuns; ++t) sum[i][n][t] += input * load<kWidth>(gradient + out * kFilters + t * kWidth);
            }
          }
        }
      }
    }
    const Run<kWidth> rates = filled<kWidth>(rate);
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
      for (int n = 0; n < kCount; ++n) {
#pragma GCC unroll 8
        for (int t = 0; t < kRuns; ++t)
          move_run<Update, kWidth>(kernel + (i * kElements + n) * kFilters + t * kWidth, rates * sum[i][n][t], rates);
      }
    }
  }
};

}  // namespace tmf::sim::single
