// Conversion to and from IEEE 754 binary16 (float16) in integer code, so that every machine computes the same bits.
#pragma once

#include <cstdint>

#include "math.hpp"
#include "protocol.hpp"

namespace tmf {

// Rounds to nearest, ties to even. Fails with kNotFinite for NaN and infinity, and with kOverflow if the result exceeds 65504.
Status to_f16(float value, uint16_t& bits);

// Exact, also for subnormal numbers, infinities and NaN.
inline float from_f16(uint16_t bits) {
  constexpr uint32_t kExponent = 0x7C00;
  const uint32_t wide = static_cast<uint32_t>(bits & 0x8000) << 16 | static_cast<uint32_t>(bits & 0x7FFF) << 13;
  if ((bits & kExponent) == kExponent) return bits_of<float>(wide | 0x7F800000);
  return bits_of<float>(wide) * 0x1p112f;  // changes the exponent's bias from 15 to 127; exact, also for subnormal numbers
}

}  // namespace tmf
