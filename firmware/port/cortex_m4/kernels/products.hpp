// Sums of products of int8 numbers on cores with the Armv7E-M DSP extension: SMLAD adds two products of 16-bit numbers at once.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf::kernels {

// Four int8 numbers, each with an offset that keeps it within int16: the first and the third in `even`, the others in `odd`.
struct Four {
  uint32_t even, odd;
};

template <int kOffset>
inline Four widened(const int8_t* from) {
  uint32_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);  // one load: the core reads words from any address
  Four four;
  if constexpr (kOffset == 0) {
    asm("sxtb16 %0, %1" : "=r"(four.even) : "r"(bytes));
    asm("sxtb16 %0, %1, ror #8" : "=r"(four.odd) : "r"(bytes));
  } else {
    constexpr uint32_t kBoth = (static_cast<uint32_t>(kOffset) & 0xffffu) * 0x10001u;
    asm("sxtab16 %0, %1, %2" : "=r"(four.even) : "r"(kBoth), "r"(bytes));
    asm("sxtab16 %0, %1, %2, ror #8" : "=r"(four.odd) : "r"(kBoth), "r"(bytes));
  }
  return four;
}

// sum plus the four products of a and b.
inline int32_t plus_products(int32_t sum, const Four& a, const Four& b) {
  asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a.even), "r"(b.even));
  asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a.odd), "r"(b.odd));
  return sum;
}

// Adds each of the four products of a and b to a sum of its own.
inline void add_each_product(int32_t (&sums)[4], const Four& a, const Four& b) {
  asm("smlabb %0, %1, %2, %0" : "+r"(sums[0]) : "r"(a.even), "r"(b.even));
  asm("smlabb %0, %1, %2, %0" : "+r"(sums[1]) : "r"(a.odd), "r"(b.odd));
  asm("smlatt %0, %1, %2, %0" : "+r"(sums[2]) : "r"(a.even), "r"(b.even));
  asm("smlatt %0, %1, %2, %0" : "+r"(sums[3]) : "r"(a.odd), "r"(b.odd));
}

}  // namespace tmf::kernels
