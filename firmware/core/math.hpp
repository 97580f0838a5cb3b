// exp, sin, tanh, sqrt, expm1, log1p, log2 and erf from + - * / and integer operations only: the same bits on every machine, for a
// float or a vector.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf {

// The bytes of `from` as another type, without conversion.
template <typename To, typename From>
To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "both types have the same size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline bool is_finite(float value) {
  constexpr uint32_t kExponent = 0x7F800000;
  return (bits_of<uint32_t>(value) & kExponent) != kExponent;
}

// Adding this rounds to an integer, ties to even; the low bits of the sum are that integer.
constexpr float kRounder = 0x1.8p23f;

// e^x, with an error of at most 0.88 ulp, also for subnormal results. 0 below about -104, +inf above 88.73, NaN for NaN.
// Float is float or a GCC vector of floats; Bits is uint32_t or the vector of the same shape.
template <typename Float, typename Bits>
Float exp_lanes(Float x) {
  const Float lowest = Float{} - 104.0f;
  const Float highest = Float{} + 89.0f;
  x = x < lowest ? lowest : x;
  x = x > highest ? highest : x;

  // x = n ln 2 + r, |r| <= ln 2 / 2. ln 2 is split in two: the first part is short enough for an exact product.
  const Float rounded = x * 0x1.715476p+0f + kRounder;
  const Float n = rounded - kRounder;
  const Float high = x - n * 0x1.62e4p-1f;
  const Float low = n * 0x1.7f7d1cp-20f;
  const Float r = high - low;

  Float tail = r * 0x1.9f076cp-13f + 0x1.6d8e8p-10f;
  tail = tail * r + 0x1.111274p-7f;
  tail = tail * r + 0x1.55548cp-5f;
  tail = tail * r + 0x1.555554p-3f;
  tail = tail * r + 0.5f;
  const Float mantissa = ((tail * (r * r) - low) + high) + 1.0f;  // high and low, as r would add its rounding error

  // 2^n as two factors: each is a normal number, even if the result is not.
  const Bits biased = bits_of<Bits>(rounded) - bits_of<uint32_t>(kRounder) + 2 * 127;
  const Bits first = biased >> 1;
  const Bits second = biased - first;
  return mantissa * bits_of<Float>(first << 23) * bits_of<Float>(second << 23);
}

// sin x, with an error of at most 1.8 ulp and 8.2e-8 for |x| <= 16. The error grows slowly up to about |x| = 10^4, above which
// the result has no meaning. NaN for NaN and infinity.
template <typename Float, typename Bits>
Float sin_lanes(Float x) {
  // x = n pi/2 + r, |r| <= pi/4. pi/2 is split in three: the first two parts are short enough for exact products.
  const Float rounded = x * 0x1.45f306p-1f + kRounder;
  const Float n = rounded - kRounder;
  const Float r = ((x - n * 0x1.922p+0f) + n * 0x1.2afp-18f) - n * 0x1.0b4612p-34f;
  const Float square = r * r;

  Float tail = square * 0x1.7c2c4ep-19f - 0x1.a05954p-13f;
  tail = tail * square + 0x1.111174p-7f;
  tail = tail * square - 0x1.555556p-3f;
  const Float sine = tail * (square * r) + r;

  tail = square * 0x1.99e8fap-16f - 0x1.6c0c2ap-10f;
  tail = tail * square + 0x1.55554ap-5f;
  const Float cosine = (tail * square - 0.5f) * square + 1.0f;

  const Bits quadrant = bits_of<Bits>(rounded);
  const Float value = (quadrant & 1) != 0 ? cosine : sine;
  return bits_of<Float>(bits_of<Bits>(value) ^ (quadrant & 2) << 30);
}

// tanh x, with an error of at most 1.7 ulp; NaN for NaN.
template <typename Float, typename Bits>
Float tanh_lanes(Float x) {
  const Float square = x * x;
  Float tail = square * -0x1.65667cp-8f + 0x1.4e71fap-6f;
  tail = tail * square - 0x1.b7ab46p-5f;
  tail = tail * square + 0x1.1102dcp-3f;
  tail = tail * square - 0x1.55552p-2f;
  const Float near = tail * (square * x) + x;

  const Float magnitude = x < Float{} ? -x : x;
  const Float far = 1.0f - 2.0f / (exp_lanes<Float, Bits>(magnitude + magnitude) + 1.0f);
  const Float mirrored = x < Float{} ? -far : far;
  return magnitude < Float{} + 0.625f ? near : mirrored;
}

// Square root of x >= 0, with an error of at most 1 ulp; +inf for +inf, 0 for subnormal numbers. Newton's method; halving the
// exponent bits gives the first estimate.
template <typename Float, typename Bits>
Float sqrt_lanes(Float x) {
  Float root = bits_of<Float>((bits_of<Bits>(x) >> 1) + 0x1fbd1df5u);
  for (int i = 0; i < 3; ++i) root = 0.5f * (root + x / root);
  root = x > Float{} + 0x1.fffffep127f ? x : root;
  return x < Float{} + 0x1p-126f ? Float{} : root;
}

// e^x - 1, with an error of at most 3.2 ulp; NaN for NaN.
template <typename Float, typename Bits>
Float expm1_lanes(Float x) {
  Float tail = x * 0x1.9f076cp-13f + 0x1.6d8e8p-10f;
  tail = tail * x + 0x1.111274p-7f;
  tail = tail * x + 0x1.55548cp-5f;
  tail = tail * x + 0x1.555554p-3f;
  tail = tail * x + 0.5f;
  const Float near = tail * (x * x) + x;
  const Float far = exp_lanes<Float, Bits>(x) - 1.0f;
  const Float magnitude = x < Float{} ? -x : x;
  return magnitude < Float{} + 0.34375f ? near : far;
}

// log(1 + x) for 0 <= x <= 1, with an error of at most 2 ulp; NaN for NaN.
template <typename Float, typename Bits>
Float log1p_lanes(Float x) {
  // log(1 + x) = 2 artanh(r), 0 <= r <= 1/3.
  const Float r = x / (x + 2.0f);
  const Float square = r * r;
  Float tail = square * 0x1.dc2fc2p-3f + 0x1.bc6dfcp-3f;
  tail = tail * square + 0x1.24ca34p-2f;
  tail = tail * square + 0x1.9998cep-2f;
  tail = tail * square + 0x1.555556p-1f;
  return tail * (square * r) + (r + r);
}

// Binary logarithm of a normal x > 0, with an error of at most 3.1e-7 + 0.5 ulp.
template <typename Float, typename Bits>
Float log2_lanes(Float x) {
  // x = 2^n (1 + f), 0 <= f < 1.
  constexpr uint32_t kMantissa = 0x007FFFFF;
  const Bits bits = bits_of<Bits>(x);
  const Float f = bits_of<Float>((bits & kMantissa) | bits_of<uint32_t>(1.0f)) - 1.0f;
  const Float n = bits_of<Float>((bits >> 23) + bits_of<uint32_t>(kRounder)) - (kRounder + 127.0f);
  return log1p_lanes<Float, Bits>(f) * 0x1.715476p+0f + n;
}

// The error function, with an error of at most 2 ulp; NaN for NaN.
template <typename Float, typename Bits>
Float erf_lanes(Float x) {
  const Float square = x * x;
  Float tail = square * -0x1.395c8cp-11f + 0x1.4716c4p-8f;
  tail = tail * square - 0x1.b686eep-6f;
  tail = tail * square + 0x1.ce1a46p-4f;
  tail = tail * square - 0x1.8126e6p-2f;
  tail = tail * square + 0x1.06eba6p-3f;
  const Float near = tail * x + x;

  // 1 - e^-(t + t p(t)), where p is a polynomial; 1 - erf(4) is less than half an ulp of 1.
  const Float four = Float{} + 4.0f;
  Float t = x < Float{} ? -x : x;
  const Float magnitude = t;
  t = t > four ? four : t;
  tail = t * -0x1.bfcf22p-13f + 0x1.a4e9b6p-9f;
  tail = tail * t - 0x1.76d7c2p-6f;
  tail = tail * t + 0x1.af14fep-4f;
  tail = tail * t + 0x1.457e88p-1f;
  tail = tail * t + 0x1.0730a6p-3f;
  const Float far = 1.0f - exp_lanes<Float, Bits>(-(tail * t + t));
  const Float mirrored = x < Float{} ? -far : far;
  return magnitude < Float{} + 0.925f ? near : mirrored;
}

inline float exp(float x) { return exp_lanes<float, uint32_t>(x); }
inline float sin(float x) { return sin_lanes<float, uint32_t>(x); }
inline float tanh(float x) { return tanh_lanes<float, uint32_t>(x); }
inline float sqrt(float x) { return sqrt_lanes<float, uint32_t>(x); }
inline float expm1(float x) { return expm1_lanes<float, uint32_t>(x); }
inline float log1p(float x) { return log1p_lanes<float, uint32_t>(x); }  // for 0 <= x <= 1
inline float log2(float x) { return log2_lanes<float, uint32_t>(x); }  // for normal x > 0
inline float erf(float x) { return erf_lanes<float, uint32_t>(x); }

}  // namespace tmf
