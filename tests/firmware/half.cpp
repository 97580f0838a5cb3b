// Tests float16: limits and rounding, and the conversion of every value to float32 and back.
#include "half.hpp"

#include <cstring>

#include "check.hpp"
#include "kernels/half_tensor.hpp"
#include "math.hpp"

namespace tmf {

TEST("to_f16 rounds to nearest, ties to even") {
  struct Case {
    float value;
    uint16_t bits;
  };
  constexpr Case kCases[] = {
      {1.0f, 0x3C00},          {-2.0f, 0xC000},         {65504.0f, 0x7BFF},      {0x1p-24f, 0x0001},
      {0x1.002p+0f, 0x3C00},   {0x1.006p+0f, 0x3C02},   {0x1.002002p+0f, 0x3C01}, {0x1p-25f, 0x0000},
      {0x1.000002p-25f, 0x0001}, {0x1.ff8p-15f, 0x03FF}, {0x1.ffcp-15f, 0x0400}, {-0.0f, 0x8000},
  };
  for (const Case& each : kCases) {
    uint16_t bits = 0;
    CHECK(to_f16(each.value, bits) == Status::kOk);
    CHECK(bits == each.bits);
  }
}

TEST("to_f16 refuses what float16 cannot hold") {
  uint16_t bits;
  CHECK(to_f16(65520.0f, bits) == Status::kOverflow);
  CHECK(to_f16(-1e30f, bits) == Status::kOverflow);
  CHECK(to_f16(bits_of<float>(0x7F800000u), bits) == Status::kNotFinite);
  CHECK(to_f16(bits_of<float>(0x7FC00000u), bits) == Status::kNotFinite);
}

TEST("every finite float16 stays the same by way of float32") {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    if ((half & 0x7C00) == 0x7C00) continue;  // infinity, NaN
    uint16_t bits = 0;
    CHECK(to_f16(from_f16(static_cast<uint16_t>(half)), bits) == Status::kOk);
    CHECK(bits == half);
  }
}

TEST("activations are rounded to float16 as weights on the wire are") {
  bool alike = true;
  for (uint32_t half = 0; half < 0x7BFF; ++half) {
    const float below = from_f16(static_cast<uint16_t>(half)), above = from_f16(static_cast<uint16_t>(half + 1));
    const uint32_t halfway = bits_of<uint32_t>(0.5f * (below + above));
    for (uint32_t each = halfway - (half > 0); each <= halfway + 1; ++each) {
      uint16_t bits = 0;
      CHECK(to_f16(bits_of<float>(each), bits) == Status::kOk);
      const float rounded = kernels::rounded_to_half(bits_of<float>(each));
      alike = alike && bits_of<uint32_t>(rounded) == bits_of<uint32_t>(from_f16(bits));
      alike = alike && kernels::rounded_to_half(-bits_of<float>(each)) == -rounded;
    }
  }
  CHECK(alike);
  CHECK(bits_of<uint32_t>(kernels::rounded_to_half(65520.0f)) == 0x7F800000);
  CHECK(bits_of<uint32_t>(kernels::rounded_to_half(65519.99f)) == bits_of<uint32_t>(65504.0f));
  CHECK(bits_of<uint32_t>(kernels::rounded_to_half(-1e-30f)) == 0x80000000);
}

TEST("packed activations lose nothing") {
  for (uint32_t half = 0; half < 0x7C00; ++half) {
    const float x[3] = {from_f16(static_cast<uint16_t>(half)), from_f16(static_cast<uint16_t>(half | 0x8000)), 2.0f};
    float packed[2], y[3];
    kernels::PackHalf<3>::forward(x, packed);
    kernels::UnpackHalf<3>::forward(packed, y);
    CHECK(std::memcmp(x, y, sizeof x) == 0);
  }
}

}  // namespace tmf
