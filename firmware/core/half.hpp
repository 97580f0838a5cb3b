// IEEE 754 binary16 in integer code, the same on machines with and without hardware for it.
#pragma once

#include <cstdint>

#include "math.hpp"
#include "protocol.hpp"

namespace tmf {

// Rounds to nearest, ties to even. kNotFinite for NaN and infinity, kOverflow for what would round beyond 65504.
Status to_f16(float value, uint16_t& bits);

// Exact; also for subnormals, infinities and NaN.
inline float from_f16(uint16_t bits) {
  constexpr uint32_t kExponent = 0x7C00;
  const uint32_t wide = static_cast<uint32_t>(bits & 0x8000) << 16 | static_cast<uint32_t>(bits & 0x7FFF) << 13;
  if ((bits & kExponent) == kExponent) return bits_of<float>(wide | 0x7F800000);
  return bits_of<float>(wide) * 0x1p112f;  // moves the exponent's bias from 15 to 127; exact, also from a subnormal
}

}  // namespace tmf
