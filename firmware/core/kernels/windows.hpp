// Visits the windows of a pool over [height, width, channels], some side by side where their columns lie on the image.
#pragma once

#include "axis.hpp"
#include "row_bands.hpp"

namespace tmf::kernels {

// Along an axis: the outputs [kBegin, kEnd) whose windows lie on inputs as a whole, and whether these are all; whether no input
// is in two windows; and whether each one is in a window at all.
template <typename Axis>
struct Whole {
  static constexpr int kBegin = Axis::first_out(0) < Axis::kOut ? Axis::first_out(0) : Axis::kOut;
  static constexpr int kEnd = Axis::last_whole_out() < kBegin ? kBegin : Axis::last_whole_out() + 1;
  static constexpr bool kAll = kBegin == 0 && kEnd == Axis::kOut;
  static constexpr bool kApart = Axis::kStride >= Axis::kKernel || Axis::kOut == 1;
  static constexpr bool kCovered = Axis::start(Axis::kOut - 1) + Axis::kKernel >= Axis::kIn &&
                                   (Axis::kStride <= Axis::kKernel || Axis::kOut == 1);
};

// How many of `whole` windows are computed side by side: `room` or some fewer, down to half, that leave fewer over.
constexpr int side_by_side(int whole, int room, int side, int found) {
  return 2 * side <= room ? found : side_by_side(whole, room, side - 1, whole % side < whole % found ? side : found);
}

// Rows or columns of a window that lie on the image: how many, and how many of the window's lie before them.
struct OnImage {
  int skipped, count;
};

// Rows and Columns are each an Axis. kTile: how many outputs are computed side by side, some channels of a window or all channels
// of neighbouring ones. kPart: how many channels are, of a window of which some columns are outside of the image.
template <typename Rows, typename Columns, int kChannels, int kTile, int kPart = kTile>
struct Windows {
  static constexpr int kInputs = Rows::kIn * Columns::kIn * kChannels;
  static constexpr int kRow = Columns::kIn * kChannels;       // from a row of inputs to the next
  static constexpr int kNext = Columns::kStride * kChannels;  // from a window to the one beside it
  static constexpr bool kApart = Whole<Rows>::kApart && Whole<Columns>::kApart;
  static constexpr bool kTiled = kApart && Whole<Rows>::kCovered && Whole<Columns>::kCovered;

  // Calls, for all windows of some rows, row by row, with the offsets of the first input and of the first output:
  // visitor.whole<number of windows, of channels>(rows, input, output) where all columns lie on the image, or
  // visitor.part<number of channels>(rows, columns, input, output).
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    for_each(visitor, AllRows<Rows>{});
  }
  template <typename Visitor, typename Some>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor, const Some& some) {
    for (int row = some.from; row < some.until; ++row) {
      const OnImage rows{Rows::first(row), Rows::last(row) - Rows::first(row)};
      const int first = (Rows::start(row) + rows.skipped) * kRow;
      parts(visitor, rows, first, row, 0, Whole<Columns>::kBegin);
      int column = Whole<Columns>::kBegin;
      int input = first + Columns::start(column) * kChannels, output = (row * Columns::kOut + column) * kChannels;
      for (; column + kSide <= Whole<Columns>::kEnd; column += kSide, input += kSide * kNext, output += kSide * kChannels)
        whole<kSide>(visitor, rows, input, output);
      if constexpr (kWhole % kSide != 0) {
        for (; column < Whole<Columns>::kEnd; ++column, input += kNext, output += kChannels)
          whole<1>(visitor, rows, input, output);
      }
      parts(visitor, rows, first, row, Whole<Columns>::kEnd, Columns::kOut);
    }
  }

 private:
  static constexpr int kWhole = Whole<Columns>::kEnd - Whole<Columns>::kBegin;
  static constexpr int kMost = kTile / kChannels < 32 / Columns::kKernel ? kTile / kChannels : 32 / Columns::kKernel;
  static constexpr int kRoom = kMost < kWhole ? (kMost > 1 ? kMost : 1) : (kWhole > 1 ? kWhole : 1);
  static constexpr int kSide = side_by_side(kWhole, kRoom, kRoom, kRoom);

  template <int kWindows, typename Visitor>
  [[gnu::always_inline]] static void whole(const Visitor& visitor, const OnImage& rows, int input, int output) {
    int c = 0;
    for (; c + kTile <= kChannels; c += kTile) visitor.template whole<kWindows, kTile>(rows, input + c, output + c);
    if constexpr (kChannels % kTile != 0) visitor.template whole<kWindows, kChannels % kTile>(rows, input + c, output + c);
  }

  // Windows of columns [column, last). `first`: the first input of their rows.
  template <typename Visitor>
  static void parts(const Visitor& visitor, const OnImage& rows, int first, int row, int column, int last) {
    for (; column < last; ++column) {
      const OnImage columns{Columns::first(column), Columns::last(column) - Columns::first(column)};
      const int input = first + (Columns::start(column) + columns.skipped) * kChannels;
      const int output = (row * Columns::kOut + column) * kChannels;
      int c = 0;
      for (; c + kPart <= kChannels; c += kPart) visitor.template part<kPart>(rows, columns, input + c, output + c);
      if constexpr (kChannels % kPart != 0) visitor.template part<kChannels % kPart>(rows, columns, input + c, output + c);
    }
  }
};

}  // namespace tmf::kernels
