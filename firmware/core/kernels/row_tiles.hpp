// Into which tiles the passes of a small depthwise kernel split a row of pixels.
#pragma once

#include "column_tiles.hpp"

namespace tmf::kernels {

// The tiles of a row of a small kernel, chosen for its axis: in each pass a first one, if any, and others of one width.
template <int kForwardFirst, int kForwardWidth, int kGradientFirst, int kGradientWidth, int kUpdateFirst, int kUpdateWidth>
struct RowTiles {
  template <typename Of>
  using Forward = RunningTiles<Of, kForwardFirst, kForwardWidth>;
  template <typename Of>
  using Gradient = RunningTiles<Of, kGradientFirst, kGradientWidth>;
  template <typename Of>
  using Summed = RunningTiles<Of, kUpdateFirst, kUpdateWidth>;
};

// Of kernels that do not stay in registers.
using NoTiles = RowTiles<-1, 1, -1, 1, -1, 1>;

// Tiles of four, six for the update, in rows of more; the first one takes what remains.
template <typename Columns>
using UsualTiles =
    RowTiles<Columns::kOut <= 6 ? 0 : Columns::kOut % 4, Columns::kOut <= 6 ? Columns::kOut : 4,
             Columns::kIn <= 6 ? 0 : Columns::kIn % 4, Columns::kIn <= 6 ? Columns::kIn : 4,
             Columns::kOut <= 12 ? 0 : Columns::kOut % 6, Columns::kOut <= 12 ? Columns::kOut : 6>;

}  // namespace tmf::kernels
