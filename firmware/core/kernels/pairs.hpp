// Walks an image two pixels at a time, so that they share every weight that a kernel loads for both.
#pragma once

#include "axis.hpp"
#include "board.hpp"

namespace tmf::kernels {

// Sums that run side by side: with what is multiplied they fit into the registers.
constexpr int kSums = board::kFloatRegisters >= 32 ? 16 : 8;
constexpr int at_most(int size, int limit) { return size < limit ? size : limit; }
constexpr int at_least(int size, int limit) { return size > limit ? size : limit; }

// Two pixels that see the same kernel elements, or a lone one.
struct Pair {
  int row, column;
  int down, right;  // from the one to the other, in pixels

  constexpr bool lone() const { return down == 0 && right == 0; }
};

// How outputs, and inputs, lie along an axis.
template <typename Axis>
struct Outputs {
  static constexpr int kCount = Axis::kOut, kNext = 1;
  static constexpr bool alike(int out) { return Axis::outputs_alike(out); }
};
template <typename Axis>
struct Inputs {
  static constexpr int kCount = Axis::kIn, kNext = Axis::kStride;
  static constexpr bool alike(int in) { return Axis::inputs_alike(in); }
};

// Every pixel of [Rows::kCount, Columns::kCount] once, in pairs as far as pixels have a fellow.
template <typename Rows, typename Columns>
struct Pairs {
  template <typename Visit>
  static constexpr void for_each(const Visit& visit) {
    for (int first_row = 0; first_row < Rows::kNext; ++first_row) {
      for (int row = first_row; row < Rows::kCount;) {
        const int down = Rows::alike(row) ? Rows::kNext : 0;
        for (int first_column = 0; first_column < Columns::kNext; ++first_column) {
          for (int column = first_column; column < Columns::kCount;) {
            const int right = down == 0 && Columns::alike(column) ? Columns::kNext : 0;
            visit(Pair{row, column, down, right});
            column += Columns::kNext + right;
          }
        }
        row += Rows::kNext + down;
      }
    }
  }

  // Whether lone pixels are worth code of their own: a single one is not, and serves as a pair with itself.
  static constexpr bool has_lone() {
    int count = 0;
    for_each([&count](const Pair& at) { count += at.lone() ? 1 : 0; });
    return count > 1;
  }
};

}  // namespace tmf::kernels
