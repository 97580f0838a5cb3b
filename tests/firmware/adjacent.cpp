// Tests the products with numbers that lie side by side, of which a port may have its own version, against plain loops: equal bits.
#include <kernels/adjacent.hpp>

#include <cstring>

#include "check.hpp"

namespace tmf {

using namespace kernels;

constexpr int kPlaces = 64;

// Numbers from -1 to 1, different for each seed.
struct Numbers64 {
  explicit Numbers64(uint32_t seed) {
    for (int i = 0; i < kPlaces; ++i) {
      const uint32_t bits = (seed * kPlaces + static_cast<uint32_t>(i) + 1u) * 2654435761u;
      at[i] = static_cast<float>(static_cast<int32_t>(bits) >> 8) * 0x1p-23f;
    }
  }
  bool operator==(const Numbers64& other) const { return std::memcmp(at, other.at, sizeof at) == 0; }

  float at[kPlaces];
};

// One product, rounded before it is used.
static float product(float a, float b) {
  volatile float rounded = a * b;
  return rounded;
}

template <int kCount>
static bool sums_agree() {
  Numbers64 sums(1), expected(1);
  const Numbers64 from(2);
  add_adjacent<kCount>(sums.at, from.at + 1);
  for (int i = 0; i < kCount; ++i) expected.at[i] += from.at[1 + i];
  return sums == expected;
}

template <int kValues, int kCount>
static bool products_agree() {
  Numbers64 sums(3), outer(3), expected(3);
  const Numbers64 from(4), values(5);
  add_products<kValues, kCount>(sums.at, from.at + 3, values.at);
  add_outer_products<kValues, kCount>(outer.at, from.at + 3, values.at);
  for (int p = 0; p < kValues; ++p)
    for (int i = 0; i < kCount; ++i) expected.at[p * kCount + i] += product(values.at[p], from.at[3 + i]);
  return sums == expected && outer == expected;
}

template <int kVectors, int kRows, int kCount>
static bool dots_agree() {
  constexpr int kApart = 5;
  Numbers64 sums(6), expected(6);
  const Numbers64 from(7), factors(8);
  add_dots<kVectors, kRows, kCount>(sums.at, from.at + 1, kApart, factors.at);
  for (int p = 0; p < kVectors; ++p)
    for (int row = 0; row < kRows; ++row)
      for (int i = 0; i < kCount; ++i)
        expected.at[p * kRows + row] += product(from.at[1 + row * kApart + i], factors.at[p * kCount + i]);
  return sums == expected;
}

template <int kCount>
static bool differences_agree() {
  Numbers64 places(9), expected(9), both(9), after(9);
  const Numbers64 steps(10), factors(11);
  float sum = 0.5f, expected_sum = 0.5f;
  subtract_products<kCount>(places.at + 2, steps.at, 0.75f);
  add_dot_subtract_products<kCount>(sum, both.at + 2, factors.at, steps.at, -0.3f);
  for (int i = 0; i < kCount; ++i) {
    expected.at[2 + i] -= product(steps.at[i], 0.75f);
    expected_sum += product(after.at[2 + i], factors.at[i]);
    after.at[2 + i] -= product(steps.at[i], -0.3f);
  }
  return places == expected && both == after && std::memcmp(&sum, &expected_sum, sizeof sum) == 0;
}

template <bool kRelu, int kCount>
static bool outputs_agree() {
  const uint32_t special[] = {0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x7F800000, 0xFF800000,
                              0x7FC00000, 0xFFC00000, 0x7F800001, 0x3F800000, 0xBF800000, 0x7F7FFFFF};
  constexpr int kSpecial = sizeof special / sizeof *special;
  for (int first = 0; first + kCount <= kSpecial; ++first) {
    Numbers64 outputs(12), expected(12);
    float sums[kCount];
    std::memcpy(sums, special + first, sizeof sums);
    store_rectified<kRelu, kCount>(outputs.at + 1, sums);
    for (int i = 0; i < kCount; ++i) expected.at[1 + i] = !kRelu || sums[i] > 0 ? sums[i] : 0.0f;
    if (!(outputs == expected)) return false;
    store_rectified_apart<kRelu, kCount, 3>(outputs.at, sums);
    for (int i = 0; i < kCount; ++i) expected.at[3 * i] = !kRelu || sums[i] > 0 ? sums[i] : 0.0f;
    if (!(outputs == expected)) return false;
  }
  return true;
}

template <bool kMask, int kCount>
static bool gradients_agree() {
  const Numbers64 sums(13);
  Numbers64 x(14), gradients(15), expected(15);
  for (int i = 0; i < kPlaces; ++i) x.at[i] = x.at[i] > 0 ? x.at[i] : 0.0f;
  store_masked<kMask, kCount>(gradients.at + 1, sums.at, x.at + 1);
  for (int i = 0; i < kCount; ++i) expected.at[1 + i] = !kMask || x.at[1 + i] > 0 ? sums.at[i] : 0.0f;
  if (!(gradients == expected)) return false;
  store_masked_apart<kMask, kCount, 3>(gradients.at, sums.at, x.at);
  for (int i = 0; i < kCount; ++i) expected.at[3 * i] = !kMask || x.at[3 * i] > 0 ? sums.at[i] : 0.0f;
  return gradients == expected;
}

TEST("sums of adjacent numbers have the bits of plain loops") {
  CHECK(sums_agree<1>() && sums_agree<4>() && sums_agree<7>() && sums_agree<8>());
}

TEST("products with adjacent numbers have the bits of plain loops") {
  CHECK(products_agree<1, 1>() && products_agree<1, 4>() && products_agree<1, 6>() && products_agree<1, 8>());
  CHECK(products_agree<2, 8>() && products_agree<2, 3>() && products_agree<2, 4>() && products_agree<3, 4>());
  CHECK(products_agree<4, 4>() && products_agree<2, 5>() && products_agree<3, 2>());
}

TEST("sums of products of adjacent numbers have the bits of plain loops") {
  CHECK(dots_agree<1, 1, 4>() && dots_agree<1, 3, 4>() && dots_agree<1, 8, 4>() && dots_agree<1, 2, 3>());
  CHECK(dots_agree<2, 1, 4>() && dots_agree<2, 7, 4>() && dots_agree<2, 3, 2>() && dots_agree<3, 4, 4>());
  CHECK(dots_agree<3, 1, 1>());
}

TEST("differences from adjacent numbers have the bits of plain loops") {
  CHECK(differences_agree<1>() && differences_agree<3>() && differences_agree<4>() && differences_agree<5>());
  CHECK(differences_agree<7>() && differences_agree<8>());
}

TEST("stored outputs of a ReLU are 0 for zeros, negative numbers and NaN") {
  CHECK(outputs_agree<true, 1>() && outputs_agree<true, 4>() && outputs_agree<true, 7>() && outputs_agree<true, 8>());
  CHECK(outputs_agree<false, 5>());
}

TEST("stored gradients are 0 where a ReLU's output is 0") {
  CHECK(gradients_agree<true, 1>() && gradients_agree<true, 4>() && gradients_agree<true, 7>() && gradients_agree<true, 8>());
  CHECK(gradients_agree<false, 5>());
}

}  // namespace tmf
