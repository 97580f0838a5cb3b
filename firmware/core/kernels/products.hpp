// Sums of products of int8 numbers, four at a time: a port may have its own version of this file for its processor.
#pragma once

#include <cstdint>

namespace tmf::kernels {

// Four int8 numbers, each with an offset that keeps it within int16.
struct Four {
  int16_t number[4];
};

template <int kOffset>
inline Four widened(const int8_t* from) {
  Four four;
  for (int i = 0; i < 4; ++i) four.number[i] = static_cast<int16_t>(from[i] + kOffset);
  return four;
}

// sum plus the four products of a and b.
inline int32_t plus_products(int32_t sum, Four a, Four b) {
  for (int i = 0; i < 4; ++i) sum += a.number[i] * b.number[i];
  return sum;
}

// Adds each of the four products of a and b to a sum of its own.
inline void add_each_product(int32_t (&sums)[4], Four a, Four b) {
  for (int i = 0; i < 4; ++i) sums[i] += a.number[i] * b.number[i];
}

}  // namespace tmf::kernels
