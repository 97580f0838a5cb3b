// Update of a convolution's bias. Its gradient adds dy over the output pixels, in ascending order, to 0.
#pragma once

#include "sgd.hpp"

namespace tmf::kernels {

template <int kTile, typename Update, int kPixels, int kFilters, typename T>
void move_bias_tile(const T* dy, T* bias, T rate) {
  T sum[kTile];
#pragma GCC unroll 8
  for (int t = 0; t < kTile; ++t) sum[t] = T{};
  for (int n = kPixels; n > 0; --n, dy += kFilters) add_adjacent<kTile>(sum, dy);
  move_adjacent<Update, kTile>(bias, sum, rate);
}

// dy is [kPixels, kFilters], bias [kFilters].
template <int kTile, typename Update, int kPixels, int kFilters, typename T>
void move_bias(const T* dy, T* bias, T rate) {
  int f = 0;
  for (; f + kTile <= kFilters; f += kTile) move_bias_tile<kTile, Update, kPixels, kFilters>(dy + f, bias + f, rate);
  if constexpr (kFilters % kTile != 0)
    move_bias_tile<kFilters % kTile, Update, kPixels, kFilters>(dy + f, bias + f, rate);
}

}  // namespace tmf::kernels
