// 2-D convolution of many clients, one in each lane, for vector units with 32 registers: they hold more sums than the core's tiles.
#pragma once

#include "../single/places.hpp"
#include "kernels/conv2d.hpp"
#include "parts.hpp"

namespace tmf::sim::lanes {

using single::InputsOf;
using single::OutputsOf;

// Of kernels/conv2d.hpp, with its orders of summation.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu>
struct Conv2d {
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    in_tiles<OutputsOf<Rows>, OutputsOf<Columns>, kFilters>([=](auto tile, const Place& at) {
      T* const place = y + (at.row * Columns::kOut + at.column) * kFilters + at.depth;
      forward_tile<decltype(tile)>(x, kernel + at.depth, bias + at.depth, place, at);
    });
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx) {
      in_tiles<InputsOf<Rows>, InputsOf<Columns>, kChannels>([=](auto tile, const Place& at) {
        const int place = (at.row * Columns::kIn + at.column) * kChannels + at.depth;
        gradient_tile<decltype(tile), kMask>(x + place, dy, dx + place, kernel + at.depth * kFilters, at);
      });
    }
    if constexpr (Update::kMoves) {
      update<Update>(x, dy, Update::template writable<T>(kernel), rate);
      kernels::move_bias<least(kFilters, 8), Update, Rows::kOut * Columns::kOut, kFilters>(
          dy, Update::template writable<T>(bias), rate);
    }
  }

 private:
  // With their factors, these sums fit into 32 registers. The weights of four filters, or channels, stay in the cache for all tiles.
  static constexpr int kSums = 24, kDepth = 4, kMostPixels = 8;

  // The sums of adjacent filters or channels, `depth` the first of them, for pixels from (row, column) on.
  struct Place {
    int row, column, depth;
  };
  template <int kPixelCount, int kDepthCount, bool kIsDown>
  struct Tile {
    static constexpr int kPixels = kPixelCount, kTile = kDepthCount;
    static constexpr bool kDown = kIsDown;  // whether the pixels lie below each other, else side by side
  };

  // Calls visit(Tile, Place) for tiles of pixels that use the same kernel elements: side by side, but below each other in columns
  // whose kernels reach beyond the image.
  template <typename Down, typename Across, int kAll, typename Visit>
  [[gnu::always_inline]] static void in_tiles(const Visit& visit) {
    constexpr int kBegin = Across::kBegin, kEnd = kBegin + (Across::kWhole > 1 ? Across::kWhole * Across::kNext : 0);
    in_parts<kAll, kDepth>([&](auto depth, int first) {
      constexpr int kPixels = least(kSums / depth(), kMostPixels);
      for (int row = 0; kEnd > kBegin && row < Down::kCount; ++row)
        single::in_groups<Across, kPixels>([&](auto pixels, int column) {
          if (column >= kBegin && column < kEnd) visit(Tile<pixels(), depth(), false>{}, Place{row, column, first});
        });
      for (int column = 0; column < Across::kCount; ++column) {
        if (column >= kBegin && column < kEnd) continue;
        single::in_groups<Down, kPixels>(
            [&](auto pixels, int row) { visit(Tile<pixels(), depth(), true>{}, Place{row, column, first}); });
      }
    });
  }

  template <typename Tile, typename T, typename W>
  static void forward_tile(const T* x, const W* kernel, const W* bias, T* y, const Place& at) {
    constexpr int kPixels = Tile::kPixels, kTile = Tile::kTile;
    constexpr int kNextX = (Tile::kDown ? Rows::kStride * Columns::kIn : Columns::kStride) * kChannels;
    constexpr int kNextY = (Tile::kDown ? Columns::kOut : 1) * kFilters;
    const int first_column = Columns::first(at.column), last_column = Columns::last(at.column), last_row = Rows::last(at.row);
    T sum[kPixels][kTile];
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[p][t] = bias[t] - T{};  // to every lane of T; + T{} would turn -0 into +0
    }
    for (int r = Rows::first(at.row); r < last_row; ++r) {
      const T* value = x + ((Rows::start(at.row) + r) * Columns::kIn + Columns::start(at.column) + first_column) * kChannels;
      const W* weight = kernel + (r * Columns::kKernel + first_column) * kChannels * kFilters;
      // The columns and channels of a kernel row are contiguous in both x and kernel: one loop covers them.
      for (int n = (last_column - first_column) * kChannels; n > 0; --n, ++value, weight += kFilters)
        add_products<kPixels, kTile>(sum, value, kNextX, weight, 1);
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, y += kNextY) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) y[t] = kernels::rectified<kRelu>(sum[p][t]);
    }
  }

  template <typename Tile, bool kMask, typename T, typename W>
  static void gradient_tile(const T* x, const T* dy, T* dx, const W* kernel, const Place& at) {
    constexpr int kPixels = Tile::kPixels, kTile = Tile::kTile;
    constexpr int kNextX = (Tile::kDown ? Rows::kStride * Columns::kIn : Columns::kStride) * kChannels;
    constexpr int kNextY = (Tile::kDown ? Columns::kOut : 1) * kFilters;
    const int last_row = Rows::last_element(at.row), last_column = Columns::last_element(at.column);
    T sum[kPixels][kTile];
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[p][t] = T{};
    }
    for (int r = Rows::first_element(at.row); r < last_row; r += Rows::kStride) {
      for (int c = Columns::first_element(at.column); c < last_column; c += Columns::kStride) {
        const T* gradient = dy + (Rows::out(at.row, r) * Columns::kOut + Columns::out(at.column, c)) * kFilters;
        const W* weight = kernel + (r * Columns::kKernel + c) * kChannels * kFilters;
        for (int f = 0; f < kFilters; ++f, ++gradient, ++weight)
          add_products<kPixels, kTile>(sum, gradient, kNextY, weight, kFilters);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, x += kNextX, dx += kNextX) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) dx[t] = kernels::masked_by<kMask>(sum[p][t], x + t);
    }
  }

  // The columns and channels of a kernel row are its elements: adjacent in both x and kernel. A tile has those of several columns
  // if these have few channels.
  static constexpr int kElements = Columns::kKernel * kChannels, kSpan = kChannels < 4 ? kElements : kChannels;
  static constexpr int kTileElements = least(kSpan, kChannels < 4 ? 6 : 4), kTileFilters = least(kSums / kTileElements, 8);

  template <typename Update, typename T>
  static void update(const T* x, const T* dy, T* kernel, const T& rate) {
    for (int r = 0; r < Rows::kKernel; ++r) {
      for (int span = 0; span < kElements; span += kSpan)
        in_parts<kSpan, kTileElements>([&](auto elements, int first) {
          in_parts<kFilters, kTileFilters>([&](auto filters, int f) {
            const int element = span + first;
            T* const place = kernel + (r * kElements + element) * kFilters + f;
            update_tile<Update, elements(), filters()>(x + element, dy + f, place, r, element, rate);
          });
        });
    }
  }

  // Sums of the gradients of adjacent elements from (r, element) on and of adjacent filters, over all output pixels.
  template <typename Update, int kCount, int kTile, typename T>
  static void update_tile(const T* x, const T* dy, T* kernel, int r, int element, const T& rate) {
    const int column = element / kChannels, last = (element + kCount - 1) / kChannels;
    // The outputs that use some, and those that use all columns of the tile.
    const int left = Columns::first_out(last), right = Columns::last_out(column), bottom = Rows::last_out(r);
    const int all_left = Columns::first_out(column), all_right = Columns::last_out(last);
    T sum[kCount][kTile];
#pragma GCC unroll 8
    for (int n = 0; n < kCount; ++n) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[n][t] = T{};
    }
    for (int row = Rows::first_out(r); row < bottom; ++row) {
      const T* value = x + ((Rows::start(row) + r) * Columns::kIn + Columns::start(left)) * kChannels;
      const T* gradient = dy + (row * Columns::kOut + left) * kFilters;
      int out = left;
      if constexpr (kSpan > kChannels)
        for (; out < all_left; ++out, value += kNextValue, gradient += kFilters) add_some(sum, value, gradient, element, out);
      for (int n = all_right - out; n > 0; --n, ++out, value += kNextValue, gradient += kFilters)
        add_products<kCount, kTile>(sum, value, 1, gradient, 1);
      if constexpr (kSpan > kChannels)
        for (; out < right; ++out, value += kNextValue, gradient += kFilters) add_some(sum, value, gradient, element, out);
    }
#pragma GCC unroll 8
    for (int n = 0; n < kCount; ++n) kernels::move_adjacent<Update, kTile>(kernel + n * kFilters, sum[n], rate);
  }
  static constexpr int kNextValue = Columns::kStride * kChannels;

  // Adds the products of an output that uses some columns of a tile.
  template <int kCount, int kTile, typename T>
  [[gnu::always_inline]] static void add_some(T (&sum)[kCount][kTile], const T* values, const T* gradient, int element, int out) {
#pragma GCC unroll 8
    for (int n = 0; n < kCount; ++n) {
      const int c = (element + n) / kChannels;
      if (out < Columns::first_out(c) || out >= Columns::last_out(c)) continue;
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[n][t] += values[n] * gradient[t];
    }
  }

  // sum[p][t] += values[p * apart] * factors[t * next].
  template <int kValues, int kTile, typename T, typename W>
  [[gnu::always_inline]] static void add_products(T (&sum)[kValues][kTile], const T* values, int apart, const W* factors, int next) {
    W factor[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) factor[t] = loaded(factors + t * next);
#pragma GCC unroll 8
    for (int p = 0; p < kValues; ++p) {
      const T value = loaded(values + p * apart);
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[p][t] += value * factor[t];
    }
  }
};

}  // namespace tmf::sim::lanes
