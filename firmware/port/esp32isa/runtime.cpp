// Functions of the compiler's run-time library: 64-bit multiplication, and float division with IEEE 754 rounding.
#include <cstdint>

namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

constexpr int kFractionBits = 23;
constexpr uint32_t kHiddenBit = 1u << kFractionBits;
constexpr uint32_t kSignBit = 1u << 31;
constexpr uint32_t kInfinity = 0xFFu << kFractionBits;
constexpr uint32_t kNan = kInfinity | kHiddenBit >> 1;
constexpr int kBias = 127;

// A finite number other than 0: significand in [2^23, 2^24) and biased exponent, which is below 1 for subnormal numbers.
struct Unpacked {
  uint32_t significand;
  int exponent;
};

Unpacked unpack(uint32_t magnitude) {
  const int exponent = static_cast<int>(magnitude >> kFractionBits);
  const uint32_t fraction = magnitude & (kHiddenBit - 1);
  if (exponent != 0) return {fraction | kHiddenBit, exponent};
  const int shift = __builtin_clz(fraction) - 8;
  return {fraction << shift, 1 - shift};
}

// Rounds significand / 4 to nearest, ties to even, at the exponent's precision. The significand's lowest bit is a sticky bit:
// it is 1 if any lower bit of the exact result is 1.
uint32_t pack(uint32_t significand, int exponent) {
  if (exponent >= 0xFF) return kInfinity;
  const int shift = exponent > 0 ? 2 : 3 - exponent;
  if (shift > 27) return 0;  // below half of the smallest number
  const uint32_t dropped = significand & ((1u << shift) - 1);
  const uint32_t half = 1u << (shift - 1);
  uint32_t rounded = significand >> shift;
  if (dropped > half || (dropped == half && (rounded & 1) != 0)) ++rounded;
  // The hidden bit, or a carry into it, adds one to the exponent.
  return rounded + (exponent > 0 ? static_cast<uint32_t>(exponent - 1) << kFractionBits : 0);
}

}  // namespace

extern "C" {

// Long division, eight bits at a time: the core divides 32 bits by 32 bits.
float __divsf3(float a, float b) {
  const uint32_t sign = (bits_of(a) ^ bits_of(b)) & kSignBit;
  const uint32_t numerator = bits_of(a) & ~kSignBit;
  const uint32_t denominator = bits_of(b) & ~kSignBit;
  if (numerator > kInfinity || denominator > kInfinity) return float_of(kNan);
  if (numerator == denominator && (numerator == 0 || numerator == kInfinity)) return float_of(kNan);
  if (numerator == 0 || denominator == kInfinity) return float_of(sign);
  if (denominator == 0 || numerator == kInfinity) return float_of(sign | kInfinity);
  Unpacked top = unpack(numerator);
  const Unpacked bottom = unpack(denominator);
  int exponent = top.exponent - bottom.exponent + kBias;
  if (top.significand < bottom.significand) {
    top.significand <<= 1;
    --exponent;
  }
  uint32_t quotient = 1;
  uint32_t remainder = top.significand - bottom.significand;
  for (int step = 0; step < 3; ++step) {
    remainder <<= 8;
    quotient = quotient << 8 | remainder / bottom.significand;
    remainder %= bottom.significand;
  }
  return float_of(sign | pack(quotient << 1 | (remainder != 0), exponent));
}

// 64-bit product modulo 2^64, from products of 16 by 16 bits.
uint64_t __muldi3(uint64_t a, uint64_t b) {
  const auto a_low = static_cast<uint32_t>(a);
  const auto b_low = static_cast<uint32_t>(b);
  const uint32_t low = (a_low & 0xFFFF) * (b_low & 0xFFFF);
  const uint32_t middle = (a_low >> 16) * (b_low & 0xFFFF) + (low >> 16);
  const uint32_t carried = (a_low & 0xFFFF) * (b_low >> 16) + (middle & 0xFFFF);
  const uint32_t high = (a_low >> 16) * (b_low >> 16) + (middle >> 16) + (carried >> 16) +
                        a_low * static_cast<uint32_t>(b >> 32) + static_cast<uint32_t>(a >> 32) * b_low;
  return static_cast<uint64_t>(high) << 32 | (carried << 16 | (low & 0xFFFF));
}

}  // extern "C"
