// Walks the windows of a pool over [height, width, channels], a tile of channels at a time.
#pragma once

#include "axis.hpp"

namespace tmf::kernels {

// How many channels a tile has, as a type.
template <int kChannels>
struct Width {
  static constexpr int kWidth = kChannels;
};

template <typename Rows, typename Columns, int kChannels, int kTile>
struct Windows {
  static constexpr bool kTiled = Rows::kTiled && Columns::kTiled;  // each input is in one window

  // The part of a window that lies on the image.
  struct Window {
    Window(int row, int column)
        : top(Rows::start(row)),
          left(Columns::start(column)),
          first_row(Rows::first(row)),
          last_row(Rows::last(row)),
          first_column(Columns::first(column)),
          last_column(Columns::last(column)) {}

    int top, left;  // of the whole
    int first_row, last_row, first_column, last_column;

    // Where a row of it begins in the image, in values.
    int begin(int r) const { return ((top + r) * Columns::kIn + left + first_column) * kChannels; }
    int columns() const { return last_column - first_column; }
    int pixels() const { return (last_row - first_row) * columns(); }
  };

  // Visits every tile of every output pixel: Width, row and column, the tile's first channel, and where its output lies.
  template <typename Visit>
  static void for_each(const Visit& visit) {
    int output = 0;
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column, output += kChannels) {
        int c = 0;
        for (; c + kTile <= kChannels; c += kTile) visit(Width<kTile>(), row, column, c, output + c);
        if constexpr (kChannels % kTile != 0) visit(Width<kChannels % kTile>(), row, column, c, output + c);
      }
    }
  }

  // Makes a gradient ready for what windows add to it.
  template <typename T>
  static void clear(T* dx) {
    if constexpr (!kTiled)
      for (int i = 0; i < Rows::kIn * Columns::kIn * kChannels; ++i) dx[i] = T{};
  }

  // What a window sends to one value.
  template <typename T>
  static void send(T& dx, const T& sent) {
    dx = kTiled ? sent : dx + sent;
  }
};

}  // namespace tmf::kernels
