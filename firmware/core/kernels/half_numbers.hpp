// Numbers of binary16 in float and packed: for a float or a vector, in operations that every machine has.
#pragma once

#include <cstdint>

#include "mask.hpp"
#include "math.hpp"

namespace tmf::kernels {

// The nearest number of binary16, ties to even, as a float: what from_f16 makes of the bits of to_f16 in half.hpp, for a float or
// each lane of a vector. Numbers beyond its range become infinite, as in IEEE 754; NaN stays NaN.
template <typename T>
T rounded_to_half(const T& x) {
  constexpr uint32_t kInfinity = 0x7F800000;
  constexpr uint32_t kLargest = 0x477FE000;  // 65504
  constexpr uint32_t kSmallestNormal = 0x38800000;  // 2^-14
  const Word<T> bits = bits_of<Word<T>>(x);
  const Word<T> magnitude = bits & 0x7FFFFFFFu;
  Word<T> rounded = (magnitude + 0xFFFu + (magnitude >> 13 & 1u)) & ~uint32_t{0x1FFF};
  // Below 2^-14 the spacing is 2^-24, which is that of floats from 0.5 to 1.
  const T small = (bits_of<T>(magnitude) + 0.5f) - 0.5f;
  rounded = magnitude < kSmallestNormal ? bits_of<Word<T>>(small) : rounded;
  rounded = rounded > kLargest ? Word<T>{} + kInfinity : rounded;
  rounded = magnitude >= kInfinity ? magnitude : rounded;
  return bits_of<T>((bits & 0x80000000u) | rounded);
}

// The bits of binary16 in each word, of a number that it represents. The product is exact.
template <typename T>
Word<T> half_bits(const T& x) {
  const Word<T> bits = bits_of<Word<T>>(x);
  const Word<T> magnitude = bits_of<Word<T>>(T(bits_of<T>(bits & 0x7FFFFFFFu) * 0x1p-112f));
  return (bits >> 16 & 0x8000u) | (magnitude >> 13 & 0x7FFFu);
}

// The same of two numbers, the first in the lower bits of each word.
template <typename T>
Word<T> packed_halves(const T& first, const T& second) {
  return half_bits(first) | half_bits(second) << 16;
}

// The number in the lower bits of each word: from_f16 of half.hpp.
template <typename T>
T first_half(Word<T> both) {
  const Word<T> wide = (both & 0x7FFFu) << 13;
  const Word<T> scaled = bits_of<Word<T>>(T(bits_of<T>(wide) * 0x1p112f));
  const Word<T> special = wide | 0x7F800000u;
  const Word<T> magnitude = wide >= 0x0F800000u ? special : scaled;
  return bits_of<T>((both & 0x8000u) << 16 | magnitude);
}

// The number in the upper bits.
template <typename T>
T second_half(Word<T> both) {
  return first_half<T>(both >> 16);
}

}  // namespace tmf::kernels
