// Products with numbers that lie side by side, on cores with the Armv7E-M floating-point extension: VLDM and VSTM move several at
// once. No result is used by the next instruction, which would wait for it.
#pragma once

#include_next <kernels/adjacent.hpp>  // for other numbers of them

namespace tmf::kernels {

// Memory that an asm reads or writes: kCount numbers.
template <int kCount>
using Numbers = float[kCount];

template <int kCount>
inline void add_products(float* sum, const float* from, const float& x) {
  if constexpr (kCount == 8) {
    asm("vldmia %[from], {s0-s7}\n\t"
        "vmul.f32 s0, s0, %[x]\n\t"
        "vmul.f32 s1, s1, %[x]\n\t"
        "vmul.f32 s2, s2, %[x]\n\t"
        "vmul.f32 s3, s3, %[x]\n\t"
        "vmul.f32 s4, s4, %[x]\n\t"
        "vmul.f32 s5, s5, %[x]\n\t"
        "vmul.f32 s6, s6, %[x]\n\t"
        "vmul.f32 s7, s7, %[x]\n\t"
        "vadd.f32 %0, %0, s0\n\t"
        "vadd.f32 %1, %1, s1\n\t"
        "vadd.f32 %2, %2, s2\n\t"
        "vadd.f32 %3, %3, s3\n\t"
        "vadd.f32 %4, %4, s4\n\t"
        "vadd.f32 %5, %5, s5\n\t"
        "vadd.f32 %6, %6, s6\n\t"
        "vadd.f32 %7, %7, s7"
        : "+t"(sum[0]), "+t"(sum[1]), "+t"(sum[2]), "+t"(sum[3]), "+t"(sum[4]), "+t"(sum[5]), "+t"(sum[6]), "+t"(sum[7])
        : [from] "r"(from), [x] "t"(x), "m"(*reinterpret_cast<const Numbers<8>*>(from))
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
  } else if constexpr (kCount >= 4) {
    asm("vldmia %[from], {s0-s3}\n\t"
        "vmul.f32 s0, s0, %[x]\n\t"
        "vmul.f32 s1, s1, %[x]\n\t"
        "vmul.f32 s2, s2, %[x]\n\t"
        "vmul.f32 s3, s3, %[x]\n\t"
        "vadd.f32 %0, %0, s0\n\t"
        "vadd.f32 %1, %1, s1\n\t"
        "vadd.f32 %2, %2, s2\n\t"
        "vadd.f32 %3, %3, s3"
        : "+t"(sum[0]), "+t"(sum[1]), "+t"(sum[2]), "+t"(sum[3])
        : [from] "r"(from), [x] "t"(x), "m"(*reinterpret_cast<const Numbers<4>*>(from))
        : "s0", "s1", "s2", "s3");
    add_products<kCount - 4>(sum + 4, from + 4, x);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) sum[i] += x * from[i];
  }
}

// Two rows of four.
template <int kApart>
inline void add_two_dots(float& first, float& second, const float* from, const float* factors) {
  const float* const next = from + kApart;
  asm("vldmia %[from], {s0-s3}\n\t"
      "vldmia %[next], {s4-s7}\n\t"
      "vmul.f32 s0, s0, %[f0]\n\t"
      "vmul.f32 s4, s4, %[f0]\n\t"
      "vmul.f32 s1, s1, %[f1]\n\t"
      "vmul.f32 s5, s5, %[f1]\n\t"
      "vadd.f32 %[first], %[first], s0\n\t"
      "vadd.f32 %[second], %[second], s4\n\t"
      "vmul.f32 s2, s2, %[f2]\n\t"
      "vmul.f32 s6, s6, %[f2]\n\t"
      "vadd.f32 %[first], %[first], s1\n\t"
      "vadd.f32 %[second], %[second], s5\n\t"
      "vmul.f32 s3, s3, %[f3]\n\t"
      "vmul.f32 s7, s7, %[f3]\n\t"
      "vadd.f32 %[first], %[first], s2\n\t"
      "vadd.f32 %[second], %[second], s6\n\t"
      "vadd.f32 %[first], %[first], s3\n\t"
      "vadd.f32 %[second], %[second], s7"
      : [first] "+t"(first), [second] "+t"(second)
      : [from] "r"(from), [next] "r"(next), [f0] "t"(factors[0]), [f1] "t"(factors[1]), [f2] "t"(factors[2]),
        [f3] "t"(factors[3]), "m"(*reinterpret_cast<const Numbers<4>*>(from)), "m"(*reinterpret_cast<const Numbers<4>*>(next))
      : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
}

template <int kRows, int kCount, int kApart>
inline void add_dots(float* sums, const float* from, const float* factors) {
  if constexpr (kRows >= 2 && kCount == 4) {
    add_two_dots<kApart>(sums[0], sums[1], from, factors);
    add_dots<kRows - 2, kCount, kApart>(sums + 2, from + 2 * kApart, factors);
  } else {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) sums[row] += from[row * kApart + i] * factors[i];
    }
  }
}

template <int kCount>
inline void subtract_products(float* place, const float* steps, const float& x) {
  if constexpr (kCount == 8) {
    asm("vldmia %[place], {s0-s7}\n\t"
        "vmul.f32 s8, %[s0], %[x]\n\t"
        "vmul.f32 s9, %[s1], %[x]\n\t"
        "vmul.f32 s10, %[s2], %[x]\n\t"
        "vmul.f32 s11, %[s3], %[x]\n\t"
        "vsub.f32 s0, s0, s8\n\t"
        "vsub.f32 s1, s1, s9\n\t"
        "vsub.f32 s2, s2, s10\n\t"
        "vsub.f32 s3, s3, s11\n\t"
        "vmul.f32 s8, %[s4], %[x]\n\t"
        "vmul.f32 s9, %[s5], %[x]\n\t"
        "vmul.f32 s10, %[s6], %[x]\n\t"
        "vmul.f32 s11, %[s7], %[x]\n\t"
        "vsub.f32 s4, s4, s8\n\t"
        "vsub.f32 s5, s5, s9\n\t"
        "vsub.f32 s6, s6, s10\n\t"
        "vsub.f32 s7, s7, s11\n\t"
        "vstmia %[place], {s0-s7}"
        : "+m"(*reinterpret_cast<Numbers<8>*>(place))
        : [place] "r"(place), [x] "t"(x), [s0] "t"(steps[0]), [s1] "t"(steps[1]), [s2] "t"(steps[2]), [s3] "t"(steps[3]),
          [s4] "t"(steps[4]), [s5] "t"(steps[5]), [s6] "t"(steps[6]), [s7] "t"(steps[7])
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11");
  } else if constexpr (kCount >= 4) {
    asm("vldmia %[place], {s0-s3}\n\t"
        "vmul.f32 s4, %[s0], %[x]\n\t"
        "vmul.f32 s5, %[s1], %[x]\n\t"
        "vmul.f32 s6, %[s2], %[x]\n\t"
        "vmul.f32 s7, %[s3], %[x]\n\t"
        "vsub.f32 s0, s0, s4\n\t"
        "vsub.f32 s1, s1, s5\n\t"
        "vsub.f32 s2, s2, s6\n\t"
        "vsub.f32 s3, s3, s7\n\t"
        "vstmia %[place], {s0-s3}"
        : "+m"(*reinterpret_cast<Numbers<4>*>(place))
        : [place] "r"(place), [x] "t"(x), [s0] "t"(steps[0]), [s1] "t"(steps[1]), [s2] "t"(steps[2]), [s3] "t"(steps[3])
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
    subtract_products<kCount - 4>(place + 4, steps + 4, x);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) place[i] = place[i] - steps[i] * x;
  }
}

template <int kCount>
inline void add_dot_subtract_products(float& sum, float* place, const float* factors, const float* steps, const float& x) {
  if constexpr (kCount == 4) {
    asm("vldmia %[place], {s0-s3}\n\t"
        "vmul.f32 s4, s0, %[f0]\n\t"
        "vmul.f32 s5, s1, %[f1]\n\t"
        "vmul.f32 s6, s2, %[f2]\n\t"
        "vmul.f32 s7, s3, %[f3]\n\t"
        "vadd.f32 %[sum], %[sum], s4\n\t"
        "vmul.f32 s4, %[s0], %[x]\n\t"
        "vadd.f32 %[sum], %[sum], s5\n\t"
        "vmul.f32 s5, %[s1], %[x]\n\t"
        "vadd.f32 %[sum], %[sum], s6\n\t"
        "vmul.f32 s6, %[s2], %[x]\n\t"
        "vadd.f32 %[sum], %[sum], s7\n\t"
        "vmul.f32 s7, %[s3], %[x]\n\t"
        "vsub.f32 s0, s0, s4\n\t"
        "vsub.f32 s1, s1, s5\n\t"
        "vsub.f32 s2, s2, s6\n\t"
        "vsub.f32 s3, s3, s7\n\t"
        "vstmia %[place], {s0-s3}"
        : [sum] "+t"(sum), "+m"(*reinterpret_cast<Numbers<4>*>(place))
        : [place] "r"(place), [x] "t"(x), [f0] "t"(factors[0]), [f1] "t"(factors[1]), [f2] "t"(factors[2]), [f3] "t"(factors[3]),
          [s0] "t"(steps[0]), [s1] "t"(steps[1]), [s2] "t"(steps[2]), [s3] "t"(steps[3])
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const float weight = place[i];
      sum += weight * factors[i];
      place[i] = weight - steps[i] * x;
    }
  }
}

}  // namespace tmf::kernels
