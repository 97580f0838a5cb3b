// Products with numbers that lie side by side in memory, as loops.
#pragma once

#include "relu.hpp"

namespace tmf::kernels {

// Where a processor may need it: all sums are complete before the compiler begins with what uses them next. So it has values in
// registers for one part of a tile at a time, not for all of it.
template <int kCount, typename T>
[[gnu::always_inline]] inline void settle(T*) {}

// to[i] = 0, for kSize numbers.
template <int kSize, typename T>
[[gnu::always_inline]] inline void clear(T* to) {
  for (int i = 0; i < kSize; ++i) to[i] = T{};
}

// sums[i] += from[i].
template <int kCount, typename T>
[[gnu::always_inline]] inline void add_adjacent(T* sums, const T* from) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) sums[i] += from[i];
}

// sums[p * kCount + i] += values[p] * from[i].
template <int kValues, int kCount, typename T, typename W>
[[gnu::always_inline]] inline void add_products(T* sums, const W* from, const T* values) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 8
    for (int p = 0; p < kValues; ++p) sums[p * kCount + i] += values[p] * from[i];
  }
}

// The same with values that lie side by side in memory.
template <int kValues, int kCount, typename T>
[[gnu::always_inline]] inline void add_outer_products(T* sums, const T* from, const T* values) {
  add_products<kValues, kCount>(sums, from, values);
}

// sums[p * kRows + row] += from[row * apart + i] * factors[p * kCount + i], in ascending order of i.
template <int kVectors, int kRows, int kCount, typename T, typename A, typename B>
[[gnu::always_inline]] inline void add_dots(T* sums, const A* from, int apart, const B* factors) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int p = 0; p < kVectors; ++p) sums[p * kRows + row] += from[row * apart + i] * factors[p * kCount + i];
    }
  }
}

// to[i] = a layer's output.
template <bool kRelu, int kCount, typename T>
[[gnu::always_inline]] inline void store_rectified(T* to, const T* sums) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) to[i] = rectified<kRelu>(sums[i]);
}

// to[i] = a gradient, with 0 where x[i] is 0 if kMask.
template <bool kMask, int kCount, typename T>
[[gnu::always_inline]] inline void store_masked(T* to, const T* sums, const T* x) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) to[i] = masked_by<kMask>(sums[i], x + i);
}

// to[i * kApart] = a layer's output.
template <bool kRelu, int kCount, int kApart, typename T>
[[gnu::always_inline]] inline void store_rectified_apart(T* to, const T* sums) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) to[i * kApart] = rectified<kRelu>(sums[i]);
}

// to[i * kApart] = a gradient, with 0 where x[i * kApart] is 0 if kMask.
template <bool kMask, int kCount, int kApart, typename T>
[[gnu::always_inline]] inline void store_masked_apart(T* to, const T* sums, const T* x) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) to[i * kApart] = masked_by<kMask>(sums[i], x + i * kApart);
}

// place[i] -= steps[i] * x.
template <int kCount, typename T>
[[gnu::always_inline]] inline void subtract_products(T* place, const T* steps, const T& x) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) place[i] = place[i] - steps[i] * x;
}

// sum += place[i] * factors[i], in ascending order of i; then place[i] -= steps[i] * x.
template <int kCount, typename T>
[[gnu::always_inline]] inline void add_dot_subtract_products(T& sum, T* place, const T* factors, const T* steps, const T& x) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    const T weight = place[i];
    sum += weight * factors[i];
    place[i] = weight - steps[i] * x;
  }
}

}  // namespace tmf::kernels
