// Dense layer in integer arithmetic over an int8 vector; forward only.
#pragma once

#include <kernels/products.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "int8_tensor.hpp"

namespace tmf::kernels {

// x * scale as a double, rounded to the nearest integer; halves away from zero. TensorFlow Lite's reference kernel of dense
// layers computes so. scale = (high * 2^32 + low) / 2^shift is a double of 53 bits below 1024, shift > 42.
inline int32_t double_product(int32_t x, int32_t high, int32_t low, int shift) {
  constexpr int64_t kLargest = 1 << 20;  // larger results are clamped to int8 anyway
  const uint64_t magnitude = static_cast<uint64_t>(x < 0 ? -static_cast<int64_t>(x) : x);
  const uint64_t lower = magnitude * static_cast<uint32_t>(low);
  const uint64_t upper = magnitude * static_cast<uint32_t>(high) + (lower >> 32);
  const uint64_t rest = lower & 0xffffffffu;  // the product is upper * 2^32 + rest
  int dropped = 0;                            // bits that a double, which has 53, cannot hold
  while ((upper >> dropped) >> 21 != 0) ++dropped;
  uint64_t kept = (upper << (32 - dropped)) + (rest >> dropped);
  const uint64_t lost = rest & ((uint64_t{1} << dropped) - 1), half = (uint64_t{1} << dropped) >> 1;
  if (dropped > 0 && (lost > half || (lost == half && kept % 2 != 0))) ++kept;
  const int places = shift - dropped;
  const uint64_t rounded = places > 62 ? 0 : (kept + (uint64_t{1} << (places - 1))) >> places;
  const int64_t result = rounded > static_cast<uint64_t>(kLargest) ? kLargest : static_cast<int64_t>(rounded);
  return static_cast<int32_t>(x < 0 ? -result : result);
}

// kernel is [units, inputs]; bias and the three parts of each unit's scale are [units]. The sum of x - kInputZero times the
// kernel is multiplied by its unit's scale, kZero is added, and the result is clamped.
template <int kInputs, int kUnits, int kInputZero, int kZero, int kLow, int kHigh>
struct DenseInt8 {
  template <typename T>
  static void forward(const T* x, const int8_t* kernel, const int32_t* bias, const int32_t* high, const int32_t* low,
                      const int8_t* shift, T* y) {
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const int8_t* from = int8_in<kInputs>(x, lane);
      int8_t* to = int8_in<kUnits>(y, lane);
      for (int u = 0; u < kUnits; ++u) {
        const int32_t sum = bias[u] + products(from, kernel + u * kInputs);
        to[u] = clamped<kLow, kHigh>(double_product(sum, high[u], low[u], shift[u]) + kZero);
      }
    }
  }

 private:
  static int32_t products(const int8_t* x, const int8_t* weight) {
    int32_t sum = 0;
    int i = 0;
    for (; i + 4 <= kInputs; i += 4) sum = plus_products(sum, widened<-kInputZero>(x + i), widened<0>(weight + i));
    for (; i < kInputs; ++i) sum += (x[i] - kInputZero) * weight[i];
    return sum;
  }
};

}  // namespace tmf::kernels
