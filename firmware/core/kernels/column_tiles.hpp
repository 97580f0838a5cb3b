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

// A tile among others of kWidth pixels. All run the same code: what only some of them use has a condition.
template <typename Of, int kWidth>
struct EqualTile {
  int place;

  constexpr bool uses(int t, int element) const {
    return Of::shares(t, element) && (in_first(t, element) || place > 0) && (in_last(t, element) || !is_last());
  }
  constexpr bool is_last() const { return place >= kLast; }
  // What every tile uses; and what two neighbours use beyond that where they meet, the next one's pixels counted on from kWidth.
  static constexpr bool always_uses(int t, int element) {
    return Of::shares(t, element) && in_first(t, element) && in_last(t, element);
  }
  static constexpr bool uses_where_met(int t, int element) {
    return Of::shares(t, element) && (t < kWidth ? !in_last(t, element) : !in_first(t - kWidth, element));
  }
  static constexpr int partner(int t, int element) { return Of::partner(kFar + t, element) - Of::partner(kFar, 0); }
  constexpr int from() const { return place / Of::kNext * Of::kMoves + Of::partner(kFar, 0) - kFar / Of::kNext * Of::kMoves; }

 private:
  static constexpr int kLast = Of::kCount - kWidth;
  static constexpr int kFar = Of::kNext * (Of::kReach + 1);  // all of its partners have a number of at least 0
  static constexpr bool in_first(int t, int element) { return Of::uses(t, element); }
  static constexpr bool in_last(int t, int element) { return Of::uses(kLast + t, element); }
};

// Tiles of one width: the widest of at most kMost pixels, but no less than five, that a row is a multiple of.
template <typename Of, int kMost>
struct EqualTiles {
 private:
  // Only the first and the last tile may have pixels whose windows are not whole, and these at different ends.
  static constexpr bool fits(int width) {
    return Of::kCount > width && Of::kCount % width == 0 && width % Of::kNext == 0 && width > Of::kReach &&
           (Of::kCount == 2 * width || (Of::whole(width) && Of::whole(Of::kCount - width - 1))) &&
           (Of::kCount - width) * Of::kMoves <= Of::kPartners * Of::kNext;
  }
  static constexpr int widest(int width) { return width == 0 || fits(width) ? width : widest(width - 1); }
  static constexpr int kWidest = widest(kMost);
  static constexpr int kWidth = kWidest > 0 ? kWidest : 1;  // C++11, without if constexpr, compiles for_each for any shape

 public:
  static constexpr bool kPossible = kWidest >= 5;

  // Calls visit<number of pixels>(tile) for every tile, from left to right.
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    for (int place = 0; place < Of::kCount; place += kWidth) visitor.template visit<kWidth>(EqualTile<Of, kWidth>{place});
  }
};

// The first or the last pixel of a row, if it is the only one at its border whose window is not whole, and lacks one column of
// the kernel. Both run the same code, which counts the columns from the first that the pixel uses.
template <typename Of>
struct BorderPixel {
  int place;

  static constexpr int kElements = Of::kReach;
  static constexpr bool uses(int, int element) { return element < kElements; }
  static constexpr int partner(int, int element) { return Of::partner(kFar, element) - lower(kFar, 0); }
  constexpr int first_element() const { return place == 0 ? first(0) : first(Of::kCount - 1); }
  constexpr int from() const { return place == 0 ? lower(0, first(0)) : lower(Of::kCount - 1, first(Of::kCount - 1)); }

  // Whether the pixel is one.
  static constexpr bool is(int place) {
    return kElements > 0 && Of::uses(place, first(place)) && Of::uses(place, first(place) + kElements - 1) &&
           !Of::uses(place, first(place) == 0 ? kElements : 0);
  }

 private:
  static constexpr int kFar = Of::kReach + 1;  // all of its partners have a number of at least 0
  static constexpr int first(int place) { return Of::uses(place, 0) ? 0 : 1; }
  static constexpr int lower(int place, int element) {
    return at_most(Of::partner(place, element), Of::partner(place, element + kElements - 1));
  }
};

// A pixel at either border, and between them tiles of one width whose windows are all whole. The last tile begins early enough to
// end at the border: it computes some pixels again, to the same bits. So it is nothing for sums over pixels.
template <typename Of, int kMost>
struct InnerTiles {
 private:
  static constexpr int kInner = Of::kCount - 2;
  static constexpr int again(int width) { return (width - kInner % width) % width; }
  // Of the widths from five on the one with the fewest such pixels.
  static constexpr int narrowest(int width, int best) {
    return width < 5 ? best : narrowest(width - 1, again(width) < again(best) ? width : best);
  }
  static constexpr int kWidth = narrowest(kMost, kMost);

 public:
  static constexpr bool kPossible = Of::kNext == 1 && kInner >= kWidth && BorderPixel<Of>::is(0) &&
                                    BorderPixel<Of>::is(Of::kCount - 1) && Of::whole(1) && Of::whole(Of::kCount - 2);

  // Calls visit<number of pixels>(tile) for the border pixels and every tile.
  template <typename Visitor>
  [[gnu::always_inline]] static void for_each(const Visitor& visitor) {
    constexpr int kLast = kPossible ? Of::kCount - 1 : 1;  // C++11, without if constexpr, compiles for_each for any shape
    for (int place = 0; place <= kLast; place += kLast) visitor.template visit<1>(BorderPixel<Of>{place});
    for (int place = 1; place < kLast; place += kWidth)
      visitor.template visit<kWidth>(LikeTile<Of, 1>{at_most(place, kLast - kWidth)});
  }
};

}  // namespace tmf::kernels
