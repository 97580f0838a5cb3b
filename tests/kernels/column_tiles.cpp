// Checks that the tiles of a row cover each pixel once and know its kernel elements, for many axes; prints those that do not.
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

template <int kIn, int kKernel, int kStride, int kPad, int kOut>
void check() {
  using Columns = Axis<kIn, kOut, kKernel, kStride, kPad>;
  ++axes;
  if (!(covers<Outputs<Columns>, 1>() && covers<Outputs<Columns>, 12>() && covers<Inputs<Columns>, 1>() &&
        covers<Inputs<Columns>, 6>() && covers<Inputs<Columns>, 12>()))
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
  lengths<1, 4, 7, 13, 24, 48>();
  std::printf("%d axes\n", axes);
}
