// Activations in float16: rounding in the forward pass, and packing of rounded numbers while they wait for the backward pass.
#pragma once

#include <cstdint>
#include <cstring>

#include "mask.hpp"
#include "math.hpp"

namespace tmf::kernels {

// The nearest number of binary16, ties to even, as a float: what from_f16 makes of the bits of to_f16 in half.hpp, for a float or
// each lane of a vector. Numbers beyond its range become the largest, 65504; infinities and NaN stay.
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
  rounded = rounded > kLargest ? Word<T>{} + kLargest : rounded;
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

// The number that the lower 16 bits of each word represent: from_f16 of half.hpp.
template <typename T>
T from_half_bits(const Word<T>& half) {
  const Word<T> wide = (half & 0x7FFFu) << 13;
  const Word<T> scaled = bits_of<Word<T>>(T(bits_of<T>(wide) * 0x1p112f));
  const Word<T> special = wide | 0x7F800000u;
  const Word<T> magnitude = wide >= 0x0F800000u ? special : scaled;
  return bits_of<T>((half & 0x8000u) << 16 | magnitude);
}

// y may be stored in place of x.
template <int kSize>
struct RoundToHalf {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = rounded_to_half(x[i]);
  }
};

// Two numbers in each T of y, the first in the lower bits. They are copied as bytes: two numbers together may look like a NaN.
template <int kSize>
struct PackHalf {
  template <typename T>
  static void forward(const T* x, T* y) {
    int i = 0;
    for (; i + 2 <= kSize; i += 2) put(y++, half_bits(x[i]) | half_bits(x[i + 1]) << 16);
    if constexpr (kSize % 2 != 0) put(y, half_bits(x[i]));
  }

 private:
  template <typename T>
  static void put(T* place, Word<T> both) {
    std::memcpy(static_cast<void*>(place), &both, sizeof both);
  }
};

template <int kSize>
struct UnpackHalf {
  template <typename T>
  static void forward(const T* x, T* y) {
    int i = 0;
    for (; i + 2 <= kSize; i += 2) {
      const Word<T> both = get(x++);
      y[i] = from_half_bits<T>(both);
      y[i + 1] = from_half_bits<T>(both >> 16);
    }
    if constexpr (kSize % 2 != 0) y[i] = from_half_bits<T>(get(x));
  }

 private:
  template <typename T>
  static Word<T> get(const T* place) {
    Word<T> both;
    std::memcpy(&both, place, sizeof both);
    return both;
  }
};

}  // namespace tmf::kernels
