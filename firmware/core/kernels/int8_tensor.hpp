// int8 tensors in an arena of T: where their bytes are, and how a sum becomes one of their numbers.
#pragma once

#include <cstdint>

#include "float_lanes.hpp"

namespace tmf::kernels {

// The bytes of one lane's tensor of kSize numbers. They follow each other, those of the next lane begin at a whole float.
template <int kSize, typename T>
const int8_t* int8_in(const T* tensor, int lane) {
  return reinterpret_cast<const int8_t*>(tensor) + lane * ((kSize + 3) / 4 * 4);
}
template <int kSize, typename T>
int8_t* int8_in(T* tensor, int lane) {
  return reinterpret_cast<int8_t*>(tensor) + lane * ((kSize + 3) / 4 * 4);
}

// x * multiplier / 2^31, rounded to the nearest integer; multiplier >= 0.
inline int32_t high_product(int32_t x, int32_t multiplier) {
  return static_cast<int32_t>((static_cast<int64_t>(x) * multiplier + (1 << 30)) >> 31);
}

// x * multiplier / 2^31 * 2^shift, rounded twice as in TensorFlow Lite's reference kernels (Jacob et al., arXiv 1712.05877):
// after the product, and after a shift to the right, where halves round away from zero.
inline int32_t scaled(int32_t x, int32_t multiplier, int shift) {
  if (shift >= 0) return high_product(static_cast<int32_t>(static_cast<uint32_t>(x) << shift), multiplier);
  const int32_t product = high_product(x, multiplier);
  const int32_t down = product < 0 ? product - 1 : product;  // so that the half of a negative number is rounded down
  return ((down >> (-shift - 1)) + 1) >> 1;
}

// The nearest number from kLow to kHigh.
template <int kLow, int kHigh>
int8_t clamped(int32_t x) {
  return static_cast<int8_t>(x < kLow ? kLow : x > kHigh ? kHigh : x);
}

// The constants of a convolution. It is passed by value: a store of an int8_t could change what a reference points to.
struct Int8Weights {
  const int8_t* kernel;
  const int32_t* bias;  // of each output channel, as multiplier and shift
  const int32_t* multiplier;
  const int8_t* shift;
};

}  // namespace tmf::kernels
