// Depthwise windows of a small kernel, which stays in registers while a tile of columns goes down all rows of a channel.
#pragma once

#include <kernels/adjacent.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "column_tiles.hpp"

namespace tmf::kernels {

// Whether a kernel stays in registers, beside the sums and factors of a tile: at most nine weights, strides of at most 2.
template <typename T, typename Rows, typename Columns>
constexpr bool is_held() {
  return run_of<T>(4) > 1 && Rows::kKernel * Columns::kKernel <= 9 && Rows::kStride <= 2 && Columns::kStride <= 2;
}

constexpr int kMostHeld = 8;  // sums of a tile among others, beside nine weights

// The tiles of a row that are computed: one for the whole row, if it is short; of one width, hence with one code, where that is
// possible, preferably of at most kMost pixels.
template <typename Of, int kMost>
struct HeldTiles {
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    if constexpr (Of::kNext == 1 && Of::kCount <= 9) {
      ColumnTiles<Of, 9>::for_each(visitor);
    } else if constexpr (EqualTiles<Of, kMost>::kPossible) {
      EqualTiles<Of, kMost>::for_each(visitor);
    } else if constexpr (EqualTiles<Of, kMostHeld>::kPossible) {
      EqualTiles<Of, kMostHeld>::for_each(visitor);
    } else if constexpr (InnerTiles<Of, 6>::kPossible) {
      InnerTiles<Of, 6>::for_each(visitor);
    } else {
      ColumnTiles<Of, kMostHeld>::for_each(visitor);
    }
  }
};

// The tiles of a row over which gradients of the kernel are summed: a tile has no sums of its own, so it may be wider.
template <typename Of>
struct SummedTiles {
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    if constexpr (Of::kCount <= (Of::kMoves == 1 ? 12 : 9)) {
      ColumnTiles<Of, 12>::for_each(visitor);
    } else if constexpr (EqualTiles<Of, kMostHeld>::kPossible) {
      EqualTiles<Of, kMostHeld>::for_each(visitor);
    } else {
      ColumnTiles<Of, 6>::for_each(visitor);
    }
  }
};

// Whether a row of 10 to 16 pixels is one tile that takes the rows of the kernel one after the other from memory: less code than
// narrow tiles with conditions at the borders, and fewer instructions.
template <typename Of>
constexpr bool is_long_tile() {
  return Of::kNext == 1 && Of::kReach < 5 && Of::kCount > 9 && Of::kCount <= 16 &&
         (Of::kMoves == 1 || !EqualTiles<Of, kMostHeld>::kPossible);
}

// Whether the gradients of all rows of the kernel are summed at the same time. Long rows that no equal tiles cover would have three
// kinds of tiles, with the code of all rows in each.
template <typename Of>
constexpr bool is_summed_at_once() {
  return Of::kCount <= 16 || EqualTiles<Of, kMostHeld>::kPossible;
}

// What a pass adds up: each place starts from Pass::start(channel), adds the products of its partners in `from` with the
// kernel, and is stored by Pass::store. RowsOf and ColumnsOf are Outputs<Axis> or Inputs<Axis>. from is [partners of the rows,
// partners of the columns, channels], kernel [kRows, kColumns, channels].
template <typename RowsOf, typename ColumnsOf, int kRows, int kColumns, int kChannels, typename Pass, typename T, typename W>
struct HeldKernel {
  const T* from;
  const W* kernel;
  Pass pass;

  [[gnu::always_inline]] void run() const {
    Tiles::for_each(OfClass<0>{*this});
    if constexpr (RowsOf::kNext > 1) Tiles::for_each(OfClass<RowsOf::kNext - 1>{*this});
  }

 private:
  static constexpr int kLine = ColumnsOf::kPartners * kChannels;
  using Tiles = HeldTiles<ColumnsOf, Pass::kMost>;

  // The rows kClass, kClass + kNext, … use the same rows of the kernel, but for those at the borders.
  template <int kClass>
  struct OfClass {
    const HeldKernel& of;

    template <int kWidth, typename Tile>
    [[gnu::always_inline]] void visit(const Tile& tile) const {
      go_down<kWidth, kColumns>(tile, of.kernel);
    }
    template <int kWidth>
    [[gnu::always_inline]] void visit(const BorderPixel<ColumnsOf>& tile) const {
      go_down<kWidth, BorderPixel<ColumnsOf>::kElements>(tile, of.kernel + tile.first_element() * kChannels);
    }

    // All rows of a tile, which uses the first kElements columns of the kernel.
    template <int kWidth, int kElements, typename Tile>
    [[gnu::always_inline]] void go_down(const Tile& tile, const W* kernel) const {
      for (int channel = 0; channel < kChannels; ++channel) {
        T weight[kRows * kColumns];
#pragma GCC unroll 9
        for (int i = 0; i < kRows * kColumns; ++i)
          if (RowsOf::shares(kClass, i / kColumns) && i % kColumns < kElements) weight[i] = kernel[i * kChannels + channel];
        const T* const pixels = of.from + tile.from() * kChannels + channel;
        const T start = of.pass.start(channel);
        constexpr int kFar = kClass + RowsOf::kNext * kRows;  // a row all of whose partners have a number of at least 0
        const T* line = pixels - kRows * RowsOf::kMoves * kLine;
        for (int row = kClass; row < RowsOf::kCount; row += RowsOf::kNext, line += RowsOf::kMoves * kLine) {
          T sum[kWidth];
#pragma GCC unroll 12
          for (int t = 0; t < kWidth; ++t) sum[t] = start;
#pragma GCC unroll 9
          for (int r = 0; r < kRows; ++r) {
            if (!RowsOf::shares(kClass, r)) continue;
            if (__builtin_expect(row < RowsOf::first(r) || row >= RowsOf::last(r), false)) continue;
            const T* const pixel = line + RowsOf::partner(kFar, r) * kLine;
#pragma GCC unroll 9
            for (int c = 0; c < kElements; ++c) {
#pragma GCC unroll 12
              for (int t = 0; t < kWidth; ++t)
                if (tile.uses(t, c)) sum[t] += pixel[tile.partner(t, c) * kChannels] * weight[r * kColumns + c];
            }
          }
          of.pass.template store<kWidth>((row * ColumnsOf::kCount + tile.place) * kChannels + channel, sum);
        }
      }
    }
  };
};

// The gradients of a small kernel and of its bias, one channel after the other: all of their sums are in registers.
template <typename Rows, typename Columns, int kChannels, typename Update, typename T>
struct HeldGradient {
  const T* x;
  const T* dy;

  [[gnu::always_inline]] void move(T* kernel, T* bias, T rate) const {
    for (int channel = 0; channel < kChannels; ++channel) {
      T sum[kElements], of_bias = T{};
#pragma GCC unroll 9
      for (int i = 0; i < kElements; ++i) sum[i] = T{};
      for (int row = 0; row < Rows::kOut; ++row)
        Tiles::for_each(OfRow{x + channel, dy + row * Columns::kOut * kChannels + channel, row, sum, &of_bias});
#pragma GCC unroll 9
      for (int i = 0; i < kElements; ++i) {
        T* const weight = kernel + i * kChannels + channel;
        Update::move(weight, *weight, rate * sum[i], rate);
      }
      Update::move(bias + channel, bias[channel], rate * of_bias, rate);
    }
  }

 private:
  static constexpr int kElements = Rows::kKernel * Columns::kKernel;
  using Tiles = SummedTiles<Outputs<Columns>>;

  struct OfRow {
    const T* x;
    const T* dy;
    int row;
    T* sum;
    T* of_bias;

    template <int kWidth, typename Tile>
    [[gnu::always_inline]] void visit(const Tile& tile) const {
      T gradient[kWidth];
      load<kWidth>(tile.place, gradient);
      add<kWidth>(tile, gradient, [&tile](int t, int c) { return tile.uses(t, c); });
    }

    // The pixels where tiles meet wait for the next tile, so that they need one condition for all rows of the kernel.
    template <int kWidth>
    [[gnu::always_inline]] void visit(const EqualTile<Outputs<Columns>, kWidth>& tile) const {
      using Tile = EqualTile<Outputs<Columns>, kWidth>;
      T gradient[2 * kWidth];
      load<kWidth>(tile.place, gradient);
      add<kWidth>(tile, gradient, &Tile::always_uses);
      if (tile.is_last()) return;
#pragma GCC unroll 12
      for (int t = kWidth; t < 2 * kWidth; ++t) gradient[t] = dy[(tile.place + t) * kChannels];
      add<2 * kWidth>(tile, gradient, &Tile::uses_where_met);
    }

   private:
    template <int kWidth>
    [[gnu::always_inline]] void load(int place, T* gradient) const {
#pragma GCC unroll 12
      for (int t = 0; t < kWidth; ++t) gradient[t] = dy[(place + t) * kChannels];
#pragma GCC unroll 12
      for (int t = 0; t < kWidth; ++t) *of_bias += gradient[t];
    }

    // Adds the products of the pixels and the kernel columns for which uses(pixel, column), in each row of the kernel.
    template <int kPixels, typename Tile, typename Uses>
    [[gnu::always_inline]] void add(const Tile& tile, const T* gradient, const Uses& uses) const {
#pragma GCC unroll 9
      for (int r = 0; r < Rows::kKernel; ++r) {
        if (__builtin_expect(row < Rows::first_out(r) || row >= Rows::last_out(r), false)) continue;
        const T* const pixel = x + ((Rows::start(row) + r) * Columns::kIn + tile.from()) * kChannels;
#pragma GCC unroll 16
        for (int t = 0; t < kPixels; ++t) {
#pragma GCC unroll 9
          for (int c = 0; c < Columns::kKernel; ++c)
            if (uses(t, c)) sum[r * Columns::kKernel + c] += pixel[tile.partner(t, c) * kChannels] * gradient[t];
        }
      }
    }
  };
};

}  // namespace tmf::kernels
