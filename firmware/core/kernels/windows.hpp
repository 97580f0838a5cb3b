// Visits the windows of a pool over [height, width, channels], a tile of channels at a time.
#pragma once

#include "axis.hpp"

namespace tmf::kernels {

// Rows and Columns are each an Axis; a tile has kTile channels, the last one may have fewer.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct Windows {
  static constexpr bool kTiled = Rows::kTiled && Columns::kTiled;  // each input is in exactly one window

  // Whether all windows lie on the image as a whole.
  static constexpr bool kWhole = Rows::first(0) == 0 && Rows::last(Rows::kOut - 1) == Rows::kKernel &&
                                 Columns::first(0) == 0 && Columns::last(Columns::kOut - 1) == Columns::kKernel;

  // The part of a window that lies on the image.
  struct Window {
    Window(int row, int column)
        : top(Rows::start(row)),
          left(Columns::start(column)),
          first_row(Rows::first(row)),
          last_row(Rows::last(row)),
          first_column(Columns::first(column)),
          last_column(Columns::last(column)) {}

    int top, left;  // of the whole window, padding included
    int first_row, last_row, first_column, last_column;

    // Offset of the window's row r in the image, in values.
    int begin(int r) const { return ((top + r) * Columns::kIn + left + first_column) * kChannels; }
    int columns() const { return last_column - first_column; }
    int pixels() const { return (last_row - first_row) * columns(); }
  };

  // Calls visit<number of channels>(row, column, the first channel, offset of its output) for every tile of every output pixel.
  template <typename Visitor>
  static void for_each(const Visitor& visitor) {
    int output = 0;
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, output += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile) visitor.template visit<kTile>(row, column, c, output + c);
        if constexpr (kChannels % kTile != 0) visitor.template visit<kChannels % kTile>(row, column, c, output + c);
      }
    }
  }

  // Sets dx to 0 before windows add to it; not needed if each input is in exactly one window.
  template <typename T>
  static void clear(T* dx) {
    if constexpr (!kTiled)
      for (int i = 0; i < Rows::kIn * Columns::kIn * kChannels; ++i) dx[i] = T{};
  }

  // Adds a window's gradient to one value of dx.
  template <typename T>
  static void add_to(T& dx, const T& gradient) {
    dx = kTiled ? gradient : dx + gradient;
  }
};

}  // namespace tmf::kernels
