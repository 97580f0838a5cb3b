// Tests the sums of products of int8 numbers, of which a port may have its own version, against plain loops.
#include <kernels/products.hpp>

#include "check.hpp"

namespace tmf {

using namespace kernels;

constexpr int kCount = 64;

// Random numbers, and at the start those of the largest products.
static void fill(int8_t (&a)[kCount], int8_t (&b)[kCount], uint32_t round) {
  for (int i = 0; i < kCount; ++i) {
    const uint32_t bits = (round * kCount + static_cast<uint32_t>(i) + 1u) * 2654435761u;
    a[i] = round == 0 ? (i % 2 == 0 ? -128 : 127) : static_cast<int8_t>(bits >> 24);
    b[i] = round == 0 ? (i % 3 == 0 ? 127 : -128) : static_cast<int8_t>(bits >> 13);
  }
}

template <int kOffset>
static bool sums_agree() {
  int8_t a[kCount], b[kCount];
  for (uint32_t round = 0; round < 20; ++round) {
    fill(a, b, round);
    int32_t sum = -17, expected = -17;
    int32_t sums[4] = {1, -2, 3, -4}, expected_sums[4] = {1, -2, 3, -4};
    for (int i = 0; i + 4 <= kCount; i += 3) {  // 3: also words that cross a border of words
      const Four<kOffset> four = widened<kOffset>(a + i);
      const Four<0> factor = widened<0>(b + i);
      sum = plus_products(sum, four, factor);
      add_each_product(sums, four, factor);
      for (int k = 0; k < 4; ++k) {
        expected += (a[i + k] + kOffset) * b[i + k];
        expected_sums[k] += (a[i + k] + kOffset) * b[i + k];
      }
    }
    if (sum != expected) return false;
    for (int k = 0; k < 4; ++k)
      if (sums[k] != expected_sums[k]) return false;
  }
  return true;
}

TEST("sums of products are those of plain loops for every offset") {
  CHECK(sums_agree<-127>());
  CHECK(sums_agree<-1>());
  CHECK(sums_agree<0>());
  CHECK(sums_agree<83>());
  CHECK(sums_agree<128>());
}

}  // namespace tmf
