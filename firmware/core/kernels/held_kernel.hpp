// Depthwise windows of a small kernel, which stays in registers while a tile of columns goes down all rows of a channel.
#pragma once

#include <kernels/adjacent.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "column_tiles.hpp"
#include "row_bands.hpp"
#include "row_walk.hpp"

namespace tmf::kernels {

// Whether a window moves over an image as a walk expects it: each step and each border by less than its elements.
template <typename Axis>
constexpr bool is_walked() {
  return Axis::kStride <= 2 && Axis::kStride <= Axis::kKernel && -Axis::start(0) < Axis::kKernel &&
         Axis::start(Axis::kOut - 1) < Axis::kIn;
}

// Whether a kernel of at most nine weights stays in registers, beside the sums and factors of a tile.
template <typename T, typename Rows, typename Columns>
constexpr bool is_held() {
  return run_of<T>(4) > 1 && Rows::kKernel * Columns::kKernel <= 9 && is_walked<Rows>() && is_walked<Columns>();
}

// What the code of all tiles of a row needs of a line of partners, whose places are counted from that of `from()`.
template <typename Tile, int kWidth, int kColumns>
struct Span {
 private:
  static constexpr int lowest(int t, int c) {
    return t == kWidth        ? kNone
           : c == kColumns    ? lowest(t + 1, 0)
           : Tile::shares(t, c) ? at_most(Tile::partner(t, c), lowest(t, c + 1))
                              : lowest(t, c + 1);
  }
  static constexpr int highest(int t, int c) {
    return t == kWidth        ? -kNone
           : c == kColumns    ? highest(t + 1, 0)
           : Tile::shares(t, c) ? at_least(Tile::partner(t, c), highest(t, c + 1))
                              : highest(t, c + 1);
  }
  static constexpr bool lacks(int t, int c, bool following) {
    return t != kWidth && (c == kColumns ? lacks(t + 1, 0, following)
                                         : (Tile::shares(t, c) && !Tile::always_uses(t, c) &&
                                            Tile::follows(t, c) == following) || lacks(t, c + 1, following));
  }
  static constexpr int kNone = 1 << 20;

 public:
  static constexpr bool kAny = lowest(0, 0) < kNone;
  static constexpr int kFrom = kAny ? lowest(0, 0) : 0, kCount = kAny ? highest(0, 0) - kFrom + 1 : 1;
  // Whether some tiles lack elements that come before those of all tiles, and whether some lack those that follow.
  static constexpr bool kPrecede = lacks(0, 0, false), kFollow = lacks(0, 0, true);
};

// What a pass adds up: each place starts from Pass::start(channel), adds the products of its partners in `from` with the
// kernel, and is stored by Pass::store. RowsOf and ColumnsOf are Outputs<Axis> or Inputs<Axis>, Tiles the RunningTiles of the
// columns. from is [partners of the rows, partners of the columns, channels], kernel [kRows, kColumns, channels].
template <typename RowsOf, typename ColumnsOf, typename Tiles, int kRows, int kColumns, int kChannels, typename Pass, typename T,
          typename W>
struct HeldKernel {
  const T* from;
  const W* kernel;
  Pass pass;

  [[gnu::always_inline]] void run() const { Tiles::for_each(*this); }

  // All rows of a tile.
  template <int kWidth, typename Tile>
  [[gnu::always_inline]] void visit(const Tile& tile) const {
    for (int channel = 0; channel < kChannels; ++channel) {
      Descent<kWidth, Tile> down(tile, *this, channel);
      for (int step = 0;; ++step) {
        down.template add_rows<true>(step);
        if (step == kLast) break;
        down.template add_rows<false>(step);
        down.line += kLineMoves * kLine;
        down.pass.move(kTargetMoves * kPlaces);
      }
#pragma GCC unroll 9
      for (int r = kRows - 1; r >= 0; --r)
        if (is_left(r)) down.store(r);
    }
  }

 private:
  using Walk = RowWalk<RowsOf>;
  static constexpr int kLine = ColumnsOf::kPartners * kChannels, kPlaces = ColumnsOf::kCount * kChannels;
  static constexpr int kLast = Walk::kSteps - 1;
  static constexpr int kLineMoves = Walk::line(1, 0) - Walk::line(0, 0), kTargetMoves = Walk::target(1, 0) - Walk::target(0, 0);

  static constexpr bool has_last_target(int r) { return Walk::target(kLast, r) >= 0 && Walk::target(kLast, r) < RowsOf::kCount; }
  // In which order the rows of the kernel are added in a step; and the latest in the last step that has a line and a target.
  static constexpr int order(int r) { return Walk::phase_of(r) * kRows + kRows - 1 - r; }
  static constexpr int latest(int r) {
    return r == kRows ? -1
                      : at_least(has_last_target(r) && Walk::line(kLast, Walk::phase_of(r)) < RowsOf::kPartners ? order(r) : -1,
                                 latest(r + 1));
  }
  static constexpr int kLatest = latest(0);
  // Whether the sum that a row of the kernel goes on with in the last step is that of a target which no row has stored.
  static constexpr bool is_left(int r) {
    return Walk::phase_of(r) == 0 && order(r) <= kLatest && has_last_target(r) &&
           !(Walk::last_of(Walk::sum_of(r)) >= 0 && order(Walk::last_of(Walk::sum_of(r))) <= kLatest);
  }

  // One channel of a tile, and how far it has come.
  template <int kWidth, typename Tile>
  struct Descent {
    using Needs = Span<Tile, kWidth, kColumns>;
    const Tile tile;
    const T* line;
    Pass pass;
    const T start;
    T weight[kRows * kColumns];
    T value[Needs::kCount];
    T begun[kRows][kWidth];  // what each row of the kernel goes on with
    T sum[Walk::kSums][kWidth];

    [[gnu::always_inline]] Descent(const Tile& at, const HeldKernel& of, int channel)
        : tile(at),
          line(of.from + (Walk::line(0, 0) * ColumnsOf::kPartners + at.from() + Needs::kFrom) * kChannels + channel),
          pass(of.pass),
          start(of.pass.start(channel)) {
      pass.move(Walk::target(0, 0) * kPlaces + at.place * kChannels + channel);
#pragma GCC unroll 9
      for (int i = 0; i < kRows * kColumns; ++i) weight[i] = of.kernel[i * kChannels + channel];
#pragma GCC unroll 9
      for (int j = 0; j < Walk::kSums; ++j) {
#pragma GCC unroll 12
        for (int t = 0; t < kWidth; ++t) sum[j][t] = start;
      }
#pragma GCC unroll 2
      for (int i = 1; i <= Walk::kUntouched; ++i)
        pass.template store<kWidth>((RowsOf::kCount - i - Walk::target(0, 0)) * kPlaces, sum[0]);
    }

    [[gnu::always_inline]] void store(int r) const {
      pass.template store<kWidth>((Walk::target(0, r) - Walk::target(0, 0)) * kPlaces, sum[Walk::sum_of(r)]);
    }

    // The rows of the kernel that the last step has, or the others.
    template <bool kInLast>
    [[gnu::always_inline]] void add_rows(int step) {
#pragma GCC unroll 9
      for (int i = 0; i < Walk::kPhases * kRows; ++i) {
        const int phase = i / kRows, r = kRows - 1 - i % kRows;
        if (Walk::phase_of(r) != phase || is_in_last(r) != kInLast) continue;
        const bool has_line = Walk::line(0, phase) >= 0 || __builtin_expect(step > 0, true);
        if (r + Walk::kPhases >= kRows) begin(phase, has_line);
        if (Walk::ends(r) && Walk::first_step(r) > 0 && !__builtin_expect(step >= Walk::first_step(r), true)) continue;
        T* const now = sum[Walk::sum_of(r)];
#pragma GCC unroll 12
        for (int t = 0; t < kWidth; ++t) now[t] = begun[r][t];
        if (has_line) {
          add_row(r, now);
          if (Walk::ends(r) || !kWholeSteps)
            add_lacking<true>(phase, r, r);
          else if (r < Walk::kPhases)
            add_lacking<true>(phase, 0, kRows - 1);
        }
        if (Walk::ends(r)) store(r);
      }
    }

   private:
    // Many steps have all rows in the last one too: its products are in vain, but the others have one condition less.
    static constexpr bool kWholeSteps = Needs::kFollow && Walk::kSteps > 8;
    static constexpr bool is_in_last(int r) {
      return order(r) <= kLatest || (kWholeSteps && !Walk::ends(r) && order(r) / kRows == kLatest / kRows);
    }

    // Loads what all tiles have of a line, and adds what comes first.
    [[gnu::always_inline]] void begin(int phase, bool has_line) {
#pragma GCC unroll 9
      for (int r = 0; r < kRows; ++r) {
        if (Walk::phase_of(r) != phase) continue;
#pragma GCC unroll 12
        for (int t = 0; t < kWidth; ++t) begun[r][t] = Walk::before(r) < 0 ? start : sum[at_least(Walk::before(r), 0)][t];
      }
      if (!has_line) return;
#pragma GCC unroll 16
      for (int i = 0; i < Needs::kCount; ++i)
        if (Needs::kAny && Tile::always_has(i + Needs::kFrom)) value[i] = partner(phase, i);
      add_lacking<false>(phase, 0, kRows - 1);
    }
    [[gnu::always_inline]] const T& partner(int phase, int i) const {
      return line[(phase * ColumnsOf::kPartners + i) * kChannels];
    }
    [[gnu::always_inline]] void add_row(int r, T* now) const {
#pragma GCC unroll 9
      for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 12
        for (int t = 0; t < kWidth; ++t)
          if (Tile::shares(t, c) && Tile::always_uses(t, c))
            now[t] += value[Tile::partner(t, c) - Needs::kFrom] * weight[r * kColumns + c];
      }
    }
    // Adds what some tiles lack, to the rows [from, to] of the kernel: before the others, or following them.
    template <bool kFollowing>
    [[gnu::always_inline]] void add_lacking(int phase, int from, int to) {
      if (!(kFollowing ? Needs::kFollow : Needs::kPrecede) || !tile.has(kFollowing)) return;
#pragma GCC unroll 9
      for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 12
        for (int t = 0; t < kWidth; ++t) {
          if (!Tile::shares(t, c) || Tile::always_uses(t, c) || Tile::follows(t, c) != kFollowing) continue;
          const T number = partner(phase, Tile::partner(t, c) - Needs::kFrom);
#pragma GCC unroll 9
          for (int r = to; r >= from; --r) {
            if (Walk::phase_of(r) != phase || (kFollowing && from != to && Walk::ends(r))) continue;
            T& to_sum = kFollowing ? sum[Walk::sum_of(r)][t] : begun[r][t];
            to_sum += number * weight[r * kColumns + c];
          }
        }
      }
    }
  };
};

// The gradients of a small kernel and, if kBias, of its bias, over the rows `some` of outputs, one channel after the other: all of
// their sums are in registers. Tiles are the RunningTiles of the outputs, which fill a row.
template <typename Rows, typename Columns, typename Tiles, int kChannels, typename Update, bool kBias, typename Some, typename T>
struct HeldGradient {
  const T* x;
  const T* dy;
  Some some;

  [[gnu::always_inline]] void move(T* kernel, T* bias, T rate) const {
    for (int channel = 0; channel < kChannels; ++channel) {
      T sum[kElements], of_bias = T{};
#pragma GCC unroll 9
      for (int i = 0; i < kElements; ++i) sum[i] = Beginning<Update>::of(kernel + i * kChannels + channel);
      for (int row = some.from; row < some.until; ++row)
        Tiles::for_each(OfRow{x + channel, dy + row * Columns::kOut * kChannels + channel, row, sum, &of_bias});
#pragma GCC unroll 9
      for (int i = 0; i < kElements; ++i) {
        T* const weight = kernel + i * kChannels + channel;
        Update::move(weight, *weight, rate * sum[i], rate);
      }
      if constexpr (kBias) Update::move(bias + channel, bias[channel], rate * of_bias, rate);
    }
  }

 private:
  static constexpr int kElements = Rows::kKernel * Columns::kKernel;

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
    template <int kWidth, int kFirst>
    [[gnu::always_inline]] void visit(const RunningTile<Outputs<Columns>, kFirst, kWidth>& tile) const {
      using Tile = RunningTile<Outputs<Columns>, kFirst, kWidth>;
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
