// Splits a row of pixels into tiles of neighbours, so that a kernel loads each weight and each value once for a whole tile.
#pragma once

#include "pixel_groups.hpp"

namespace tmf::kernels {

// A tile that begins at `place` and whose pixels use the same kernel elements as those of the tile at kLike. Which these are is
// thus known at compile time. Of is Outputs<Axis> or Inputs<Axis>.
template <typename Of, int kLike>
struct LikeTile {
  int place;

  // Whether the tile's pixel t uses the kernel element; and where the partner of both is, counted from that of `from()`.
  static constexpr bool uses(int t, int element) { return Of::uses(kLike + t, element); }
  static constexpr int partner(int t, int element) { return Of::partner(kLike + t, element) - Of::from(kLike); }
  constexpr int from() const { return Of::from(place); }
  // As of RunningTile, of which some tiles may lack an element.
  static constexpr bool shares(int t, int element) { return uses(t, element); }
  static constexpr bool always_uses(int, int) { return true; }
  static constexpr bool follows(int, int) { return false; }
  static constexpr bool always_has(int) { return true; }
  static constexpr bool has(bool) { return true; }
};

// A tile anywhere, also where it is like no other.
template <typename Of>
struct AnyTile {
  int place;

  constexpr bool uses(int t, int element) const { return Of::uses(place + t, element); }
  constexpr int partner(int t, int element) const { return Of::partner(place + t, element) - Of::from(place); }
  constexpr int from() const { return Of::from(place); }
};

// Tiles of at most kMost pixels: one at each border where the kernel reaches beyond the image, and others of kWidth pixels.
template <typename Of, int kMost>
struct ColumnTiles {
  // Calls visit<number of pixels>(tile) for every tile, from left to right.
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    if constexpr (kInside == 0 || (Of::whole(kLeft) && Of::whole(kLeft + kInside * kWidth - 1))) {
      if constexpr (kLeft > 0) visitor.template visit<at_least(kLeft, 1)>(LikeTile<Of, 0>{0});
      for (int i = 0; i < kInside; ++i) visitor.template visit<kWidth>(LikeTile<Of, kLeft>{kLeft + i * kWidth});
      if constexpr (kRight > 0) visitor.template visit<at_least(kRight, 1)>(LikeTile<Of, Of::kCount - kRight>{Of::kCount - kRight});
    } else {  // the kernel reaches further than a tile
      for (int i = 0; i < Of::kCount; ++i) visitor.template visit<1>(AnyTile<Of>{i});
    }
  }

 private:
  static constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
  // Only pixels at a multiple of kNext use the same kernel elements.
  static constexpr int rounded_up(int pixels) { return ceil_div(pixels, Of::kNext) * Of::kNext; }
  static constexpr int rounded_down(int pixels) { return pixels / Of::kNext * Of::kNext; }

  // Pixels at either border whose windows are not whole.
  static constexpr int left(int place) { return place == Of::kCount || Of::whole(place) ? place : left(place + 1); }
  static constexpr int right(int place) {
    return place == 0 || Of::whole(place - 1) ? Of::kCount - place : right(place - 1);
  }

  // One tile, or two, or as many as possible inside and narrow ones at the borders: each kind of tile has code of its own.
  static constexpr int kBorder = rounded_up(left(0));
  static constexpr int kBorders = kBorder + rounded_up(right(Of::kCount));
  static constexpr bool kFew = Of::kCount <= at_least(Of::whole(0) ? kMost : 2 * kMost, kBorders);
  static constexpr int kWidest = at_least(rounded_down(kMost), Of::kNext);
  // Of the widths above three quarters of the widest, the one that leaves the fewest pixels to the borders.
  static constexpr int narrowest(int width, int best) {
    return 4 * width <= 3 * kWidest || width < Of::kNext
               ? best
               : narrowest(width - Of::kNext, remains(width) < remains(best) ? width : best);
  }
  static constexpr int remains(int width) { return (Of::kCount - kBorders) % width; }
  static constexpr int kWidth = kFew ? 1 : narrowest(kWidest, kWidest);
  static constexpr int kInside = kFew ? 0 : (Of::kCount - kBorders) / kWidth;
  static constexpr int kRest = Of::kCount - kInside * kWidth;
  // The rest is shared between the borders, unless only one of them needs a tile of its own.
  static constexpr int kShared = kFew || kBorders > kBorder ? rounded_up(kRest / 2) : rounded_down(kRest);
  static constexpr int kLeft = Of::whole(0) || Of::kCount <= kMost ? 0 : at_most(at_least(kShared, kBorder), Of::kCount);
  static constexpr int kRight = kRest - kLeft;
};

// A tile among others of kWidth pixels that begin at kFirst. All run the same code: what only some of them use has a condition, but
// of a single one it is known.
template <typename Of, int kFirst, int kWidth>
struct RunningTile {
  int place;

  constexpr bool uses(int t, int element) const {
    return shares(t, element) && (always_uses(t, element) || has(follows(t, element)));
  }
  constexpr int from() const { return from_of(place); }
  constexpr bool is_last() const { return place >= kLast; }
  static constexpr int partner(int t, int element) { return Of::partner(kFar + t, element) - Of::partner(kFar, 0); }

  // Whether any tile uses the element, and whether all do. Others come before those that all use, or follow them; a tile has all
  // or none that follow, and all or none that do not.
  static constexpr bool shares(int t, int element) {
    return kFirst == kLast ? Of::uses(kFirst + t, element) : Of::shares(kFirst + t, element);
  }
  static constexpr bool always_uses(int t, int element) { return in_first(t, element) && in_last(t, element); }
  static constexpr bool follows(int t, int element) { return in_first(t, element) == Of::kAscends; }
  constexpr bool has(bool following) const { return following == Of::kAscends ? place < kLast : place > kFirst; }
  // Whether all tiles have a partner at that distance from that of `from()`.
  static constexpr bool always_has(int partner) {
    return from_of(kFirst) + partner >= 0 && from_of(kLast) + partner < Of::kPartners;
  }
  // What two neighbours use beyond what all do, where they meet: the next one's pixels are counted on from kWidth.
  static constexpr bool uses_where_met(int t, int element) {
    return shares(t % kWidth, element) && (t < kWidth ? !in_last(t, element) : !in_first(t - kWidth, element));
  }

 private:
  static constexpr int kLast = Of::kCount - kWidth;
  static constexpr int kFar = kFirst + Of::kNext * (Of::kReach + 1);  // all of its partners have a number of at least 0
  static constexpr int from_of(int at) {
    return (at - kFirst) / Of::kNext * Of::kMoves + Of::partner(kFar, 0) - (kFar - kFirst) / Of::kNext * Of::kMoves;
  }
  static constexpr bool in_first(int t, int element) { return Of::uses(kFirst + t, element); }
  static constexpr bool in_last(int t, int element) { return Of::uses(kLast + t, element); }
};

// A first tile of kFirst pixels, if any, and others of kWidth. Where these do not fill the row, the last one begins early enough to
// end at the border: it computes some pixels again, to the same bits. So that is nothing for sums over pixels.
template <typename Of, int kFirst, int kWidth>
struct RunningTiles {
 private:
  // Pixels at either border whose windows are not whole.
  static constexpr int left(int place) { return place == Of::kCount || Of::whole(place) ? place : left(place + 1); }
  static constexpr int right(int place) { return place == 0 || Of::whole(place - 1) ? Of::kCount - place : right(place - 1); }

  static constexpr int kOthers = Of::kCount - kFirst, kRest = kOthers % kWidth;
  static constexpr bool kOne = kOthers == kWidth;
  // Of several with one code, only the first and the last may lack anything, each at one border.
  static constexpr bool kAlike = kWidth % Of::kNext == 0 && kRest % Of::kNext == 0 && kWidth >= right(Of::kCount) &&
                                 (kRest == 0 || kRest >= right(Of::kCount)) && (kFirst > 0 ? kFirst : kWidth) >= left(0) &&
                                 Of::kCount - kWidth >= left(0);

 public:
  // Whether they cover the row, and whether they do so without computing a pixel again.
  static constexpr bool kCover = kFirst >= 0 && kOthers >= kWidth && (kOne || kAlike);
  static constexpr bool kFill = kCover && kRest == 0;

  // Calls visit<number of pixels>(tile) for every tile, from left to right.
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    if constexpr (kFirst > 0) visitor.template visit<at_least(kFirst, 1)>(LikeTile<Of, 0>{0});
    for (int place = kFirst; place < Of::kCount; place += kWidth)
      visitor.template visit<kWidth>(RunningTile<Of, kFirst, kWidth>{kRest == 0 ? place : at_most(place, Of::kCount - kWidth)});
  }
};

}  // namespace tmf::kernels
