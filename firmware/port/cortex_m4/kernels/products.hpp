// Sums of products of int8 numbers on cores with the Armv7E-M DSP extension: SMLAD adds two products of 16-bit numbers at once.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf::kernels {

// Four int8 numbers, to each of which kOffset is added, as int16: the first and the third in `even`, the others in `odd`.
template <int kOffset>
struct Four {
  uint32_t even, odd;
};

template <int kOffset>
inline Four<kOffset> widened(const int8_t* from) {
  uint32_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);  // one load: the core reads words from any address
  uint32_t even, odd;
  if constexpr (kOffset == 0) {
    asm("sxtb16 %0, %1" : "=r"(even) : "r"(bytes));
    asm("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(bytes));
  } else {
    constexpr uint32_t kBoth = (static_cast<uint32_t>(kOffset) & 0xffffu) * 0x10001u;
    asm("sxtab16 %0, %1, %2" : "=r"(even) : "r"(kBoth), "r"(bytes));
    asm("sxtab16 %0, %1, %2, ror #8" : "=r"(odd) : "r"(kBoth), "r"(bytes));
  }
  return Four<kOffset>{even, odd};
}

// sum plus the four products of a and b.
template <int kA, int kB>
inline int32_t plus_products(int32_t sum, Four<kA> a, Four<kB> b) {
  asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a.even), "r"(b.even));
  asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a.odd), "r"(b.odd));
  return sum;
}

// Adds each of the four products of a and b to a sum of its own.
template <int kA, int kB>
inline void add_each_product(int32_t (&sums)[4], Four<kA> a, Four<kB> b) {
  int32_t first = sums[0], second = sums[1], third = sums[2], fourth = sums[3];
  asm("smlabb %0, %1, %2, %0" : "+r"(first) : "r"(a.even), "r"(b.even));
  asm("smlabb %0, %1, %2, %0" : "+r"(second) : "r"(a.odd), "r"(b.odd));
  asm("smlatt %0, %1, %2, %0" : "+r"(third) : "r"(a.even), "r"(b.even));
  asm("smlatt %0, %1, %2, %0" : "+r"(fourth) : "r"(a.odd), "r"(b.odd));
  sums[0] = first, sums[1] = second, sums[2] = third, sums[3] = fourth;
}

}  // namespace tmf::kernels
