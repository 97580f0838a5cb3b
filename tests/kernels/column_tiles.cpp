// Checks that the tiles of a row, and groups of pixels, cover each pixel once and know its kernel elements, for many axes; prints
// those that do not.
#include <cstdio>

#include "kernels/column_tiles.hpp"

using namespace tmf::kernels;

namespace {

int axes = 0;

template <typename Of>
struct Visitor {
  int* seen;
  bool* right;

  template <int kWidth, typename Tile>
  void visit(const Tile& tile) const {
    for (int t = 0; t < kWidth; ++t) {
      ++seen[tile.place + t];
      for (int element = 0; element <= Of::kReach; ++element) {
        const bool used = Of::uses(tile.place + t, element);
        if (tile.uses(t, element) != used) *right = false;
        if (used && tile.partner(t, element) + tile.from() != Of::partner(tile.place + t, element)) *right = false;
      }
    }
  }
};

template <typename Of, int kMost>
bool covers() {
  int seen[Of::kCount] = {};
  bool right = true;
  ColumnTiles<Of, kMost>::for_each(Visitor<Of>{seen, &right});
  for (int count : seen) right = right && count == 1;
  return right;
}

// Whether a pixel uses an element in all tiles, or before or after those, where the tile has them; or where two tiles meet.
template <typename Of>
struct RunningVisitor {
  bool* right;

  template <int kWidth, typename Tile>
  void visit(const Tile& tile) const {
    for (int t = 0; t < kWidth; ++t) {
      for (int element = 0; element <= Of::kReach; ++element) {
        const bool used = Of::uses(tile.place + t, element), always = Tile::shares(t, element) && Tile::always_uses(t, element);
        const bool follows = Tile::follows(t, element);
        if (used != (always || (Tile::shares(t, element) && tile.has(follows)))) *right = false;
        if (always && !Tile::always_has(Tile::partner(t, element))) *right = false;
        for (int other = 0; other <= Of::kReach; ++other)  // what follows comes after what all use
          if (used && !always && Tile::shares(t, other) && Tile::always_uses(t, other) && follows != (element > other))
            *right = false;
      }
    }
  }
};
template <typename Of>
struct MeetingVisitor {
  bool* right;

  template <int kWidth, typename Tile>
  void visit(const Tile&) const {}
  template <int kWidth, int kFirst>
  void visit(const RunningTile<Of, kFirst, kWidth>& tile) const {
    using Tile = RunningTile<Of, kFirst, kWidth>;
    for (int t = 0; t < kWidth; ++t) {
      for (int element = 0; element <= Of::kReach; ++element) {
        const bool always = Tile::always_uses(t, element);
        const bool at_end = Tile::uses_where_met(t, element) && !tile.is_last();
        const bool at_start = Tile::uses_where_met(kWidth + t, element) && tile.place > kFirst;
        if (always + at_end + at_start != Of::uses(tile.place + t, element)) *right = false;
        if (at_start && Tile::partner(kWidth + t, element) - Tile::partner(t, element) != kWidth / Of::kNext * Of::kMoves)
          *right = false;
      }
    }
  }
};

int rows_of_running_tiles = 0;

template <typename Of, int kFirst, int kWidth>
bool running_tiles_cover() {
  using Tiles = RunningTiles<Of, kFirst, kWidth>;
  bool right = true;
  if constexpr (Tiles::kCover) {
    ++rows_of_running_tiles;
    int seen[Of::kCount] = {};
    Tiles::for_each(Visitor<Of>{seen, &right});
    for (int count : seen) right = right && (count == 1 || (count == 2 && !Tiles::kFill));
    Tiles::for_each(RunningVisitor<Of>{&right});
    if constexpr (Tiles::kFill) Tiles::for_each(MeetingVisitor<Of>{&right});
  }
  return right;
}

// Whether groups along an axis cover each pixel once, and all of a group use the same elements.
template <typename Of, int kSize>
bool groups_cover() {
  using Single = Outputs<Axis<1, 1, 1, 1, 0>>;
  int seen[Of::kCount] = {};
  bool right = true;
  Groups<Single, Of, kSize>::for_each([&](const Group& at) {
    for (int i = 0; i < (at.is_single() ? 1 : kSize); ++i) {
      const int place = at.column + i * at.right;
      ++seen[place];
      for (int element = 0; element <= Of::kReach; ++element)
        if (Of::uses(place, element) != Of::uses(at.column, element)) right = false;
    }
  });
  for (int count : seen) right = right && count == 1;
  return right;
}

// Whether kWhole outputs, from the first one that begins on the image on, have a whole window, and no other does.
template <typename Columns>
bool counts_whole() {
  using Of = Outputs<Columns>;
  for (int out = 0; out < Of::kCount; ++out) {
    const int from = Columns::first_out(0);
    if (Of::whole(out) != (out >= from && out < from + Of::kWhole)) return false;
  }
  return true;
}

// Whether the places that use a kernel element are those of its range that share it, with partners at equal distances.
template <typename Of>
bool ranges_hold() {
  for (int element = 0; element <= Of::kReach; ++element) {
    for (int place = 0; place < Of::kCount; ++place) {
      const bool within = Of::shares(place, element) && place >= Of::first(element) && place < Of::last(element);
      if (Of::uses(place, element) != within) return false;
      if (within && Of::partner(place + Of::kNext, element) != Of::partner(place, element) + Of::kMoves) return false;
      if (within && Of::partner(place, element) >= Of::kPartners) return false;
    }
  }
  return true;
}

template <int kIn, int kKernel, int kStride, int kPad, int kOut>
void check() {
  using Columns = Axis<kIn, kOut, kKernel, kStride, kPad>;
  ++axes;
  if (!(covers<Outputs<Columns>, 1>() && covers<Outputs<Columns>, 2>() && covers<Outputs<Columns>, 4>() &&
        covers<Outputs<Columns>, 12>() && covers<Inputs<Columns>, 1>() && covers<Inputs<Columns>, 6>() &&
        covers<Inputs<Columns>, 12>() && running_tiles_cover<Outputs<Columns>, 0, 4>() &&
        running_tiles_cover<Outputs<Columns>, 1, 6>() && running_tiles_cover<Outputs<Columns>, 0, 7>() &&
        running_tiles_cover<Inputs<Columns>, 0, 4>() && running_tiles_cover<Inputs<Columns>, 1, 6>() &&
        running_tiles_cover<Inputs<Columns>, 0, 7>() && groups_cover<Outputs<Columns>, 3>() && groups_cover<Inputs<Columns>, 3>() &&
        counts_whole<Columns>() && ranges_hold<Outputs<Columns>>() && ranges_hold<Inputs<Columns>>()))
    std::printf("wrong: %d inputs, %d elements, stride %d, padding %d\n", kIn, kKernel, kStride, kPad);
}

template <int kIn, int kKernel, int kStride>
void paddings() {
  constexpr int kOut = (kIn + kStride - 1) / kStride, kMissing = (kOut - 1) * kStride + kKernel - kIn;
  check<kIn, kKernel, kStride, (kMissing > 0 ? kMissing / 2 : 0), kOut>();
  check<kIn, kKernel, kStride, kKernel - 1, (kIn - 1) / kStride + 1>();
  if constexpr (kKernel <= kIn) check<kIn, kKernel, kStride, 0, (kIn - kKernel) / kStride + 1>();
}

template <int... kIn>
void lengths() {
  (paddings<kIn, 1, 2>(), ...), (paddings<kIn, 3, 1>(), ...), (paddings<kIn, 3, 2>(), ...), (paddings<kIn, 5, 1>(), ...);
  (paddings<kIn, 2, 5>(), ...), (paddings<kIn, 3, 3>(), ...), (paddings<kIn, 15, 1>(), ...);
}

}  // namespace

int main() {
  lengths<1, 4, 7, 12, 13, 24, 48>();
  std::printf("%d axes, %d rows of running tiles\n", axes, rows_of_running_tiles);
}
