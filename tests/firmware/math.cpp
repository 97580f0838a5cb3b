// Tests the bits of exp and sin: training must compute the same on all machines.
#include "math.hpp"

#include "check.hpp"
#include "crc32.hpp"

namespace tmf {
namespace {

// CRC-32 of function(first + step * i) for i from 0 to `count` - 1.
uint32_t bits_from(float (*function)(float), float first, float step, int count) {
  uint32_t crc = 0;
  for (int i = 0; i < count; ++i) {
    const auto bits = bits_of<uint32_t>(function(first + step * static_cast<float>(i)));
    const uint8_t bytes[] = {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8), static_cast<uint8_t>(bits >> 16),
                             static_cast<uint8_t>(bits >> 24)};
    crc = crc32(bytes, sizeof bytes, crc);
  }
  return crc;
}

}  // namespace

TEST("exp at 0, at 1 and at its limits") {
  CHECK(exp(0.0f) == 1.0f);
  CHECK(bits_of<uint32_t>(exp(1.0f)) == 0x402DF854);
  CHECK(exp(-104.1f) == 0.0f);
  CHECK(bits_of<uint32_t>(exp(89.0f)) == 0x7F800000);
}

TEST("sin at 0, 1 and close to pi") {
  CHECK(sin(0.0f) == 0.0f);
  CHECK(bits_of<uint32_t>(sin(1.0f)) == 0x3F576AA4);
  CHECK(sin(3.14159274f) < 0.0f && sin(3.14159274f) > -1e-7f);
}

TEST("exp and sin give the recorded bits") {
  CHECK(bits_from(exp, -105.0f, 0x1p-4f, 3200) == 0x7F3DA04A);
  CHECK(bits_from(sin, -16.0f, 0x1p-6f, 2048) == 0xE9288322);
}

}  // namespace tmf
