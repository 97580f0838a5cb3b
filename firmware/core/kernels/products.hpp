// Sums of products of int8 numbers, four at a time: a port may have its own version of this file for its processor.
#pragma once

#include <cstdint>

namespace tmf::kernels {

// Four int8 numbers, to each of which kOffset is added; the sums fit into int16.
template <int kOffset>
struct Four {
  const int8_t* from;

  int32_t at(int i) const { return from[i] + kOffset; }
};

template <int kOffset>
inline Four<kOffset> widened(const int8_t* from) {
  return Four<kOffset>{from};
}

// sum plus the four products of a and b.
template <int kA, int kB>
inline int32_t plus_products(int32_t sum, Four<kA> a, Four<kB> b) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sum += a.at(i) * b.at(i);
  return sum;
}

// Adds each of the four products of a and b to a sum of its own.
template <int kA, int kB>
inline void add_each_product(int32_t (&sums)[4], Four<kA> a, Four<kB> b) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sums[i] += a.at(i) * b.at(i);
}

}  // namespace tmf::kernels
