// Rounding of float32 to binary16.
#include "half.hpp"

namespace tmf {

Status to_f16(float value, uint16_t& bits) {
  constexpr uint32_t kInfinity = 0x7F800000;
  constexpr uint32_t kFirstOverflow = 0x477FF000;  // 65520, halfway to 2^16
  constexpr uint32_t kSmallestNormal = 0x38800000;  // 2^-14
  uint32_t magnitude = bits_of<uint32_t>(value);
  const uint32_t sign = magnitude >> 16 & 0x8000;
  magnitude &= 0x7FFFFFFF;
  if (magnitude >= kInfinity) return Status::kNotFinite;
  if (magnitude >= kFirstOverflow) return Status::kOverflow;

  uint32_t shift = 13;
  if (magnitude >= kSmallestNormal) {
    magnitude -= (127 - 15) << 23;
  } else {
    const uint32_t exponent = magnitude >> 23;
    shift = exponent < 101 ? 25 : 126 - exponent;  // in units of 2^-24; a shift of 25 rounds every mantissa to zero
    magnitude = (magnitude & 0x7FFFFF) | 0x800000;
  }
  const uint32_t odd = magnitude >> shift & 1;
  bits = static_cast<uint16_t>(sign | (magnitude + (1u << (shift - 1)) - 1 + odd) >> shift);
  return Status::kOk;
}

}  // namespace tmf
