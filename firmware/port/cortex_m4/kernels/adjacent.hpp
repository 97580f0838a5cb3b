// Products with numbers that lie side by side, on cores with the Armv7E-M floating-point extension: VLDM and VSTM move several at
// once. No result is used by the next instruction, which would wait for it.
#pragma once

#include <kernels/adjacent_loops.hpp>  // for other numbers of them, and for other processors

#if defined __ARM_ARCH_7EM__ && defined __ARM_FP  // a library may be compiled for another chip

namespace tmf::kernels {

// Memory that an asm reads or writes: kCount numbers.
template <int kCount>
using Numbers = float[kCount];

template <int kCount>
[[gnu::always_inline]] inline void settle(float* sums) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+t"(sums[i]));
}

template <int kSize>
[[gnu::always_inline]] inline void clear(float* to) {
  float* const end = to + kSize;
  if (kSize >= 8) {
    register float a asm("s0") = 0.0f, b asm("s1") = 0.0f, c asm("s2") = 0.0f, d asm("s3") = 0.0f;
    register float e asm("s4") = 0.0f, f asm("s5") = 0.0f, g asm("s6") = 0.0f, h asm("s7") = 0.0f;
    do {
      asm volatile("vstmia %0!, {s0-s7}"
                   : "+r"(to)
                   : "t"(a), "t"(b), "t"(c), "t"(d), "t"(e), "t"(f), "t"(g), "t"(h)
                   : "memory");
    } while (end - to >= 8);
  }
  for (; to != end; ++to) *to = 0.0f;
}

template <int kCount>
[[gnu::always_inline]] inline void add_adjacent(float* sums, const float* from) {
  if constexpr (kCount == 8) {
    asm("vldmia %[from], {s0-s7}\n\t"
        "vadd.f32 %0, %0, s0\n\t"
        "vadd.f32 %1, %1, s1\n\t"
        "vadd.f32 %2, %2, s2\n\t"
        "vadd.f32 %3, %3, s3\n\t"
        "vadd.f32 %4, %4, s4\n\t"
        "vadd.f32 %5, %5, s5\n\t"
        "vadd.f32 %6, %6, s6\n\t"
        "vadd.f32 %7, %7, s7"
        : "+t"(sums[0]), "+t"(sums[1]), "+t"(sums[2]), "+t"(sums[3]), "+t"(sums[4]), "+t"(sums[5]), "+t"(sums[6]), "+t"(sums[7])
        : [from] "r"(from), "m"(*reinterpret_cast<const Numbers<8>*>(from))
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
  } else if constexpr (kCount >= 4) {
    asm("vldmia %[from], {s0-s3}\n\t"
        "vadd.f32 %0, %0, s0\n\t"
        "vadd.f32 %1, %1, s1\n\t"
        "vadd.f32 %2, %2, s2\n\t"
        "vadd.f32 %3, %3, s3"
        : "+t"(sums[0]), "+t"(sums[1]), "+t"(sums[2]), "+t"(sums[3])
        : [from] "r"(from), "m"(*reinterpret_cast<const Numbers<4>*>(from))
        : "s0", "s1", "s2", "s3");
    add_adjacent<kCount - 4>(sums + 4, from + 4);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) sums[i] += from[i];
  }
}

template <int kValues, int kCount>
[[gnu::always_inline]] inline void add_products(float* sums, const float* from, const float* values) {
  float product, other;
  if constexpr (kCount == 8) {
    register float a asm("s0"), b asm("s1"), c asm("s2"), d asm("s3"), e asm("s4"), f asm("s5"), g asm("s6"), h asm("s7");
    asm("vldmia %8, {s0-s7}"
        : "=t"(a), "=t"(b), "=t"(c), "=t"(d), "=t"(e), "=t"(f), "=t"(g), "=t"(h)
        : "r"(from), "m"(*reinterpret_cast<const Numbers<8>*>(from)));
#pragma GCC unroll 8
    for (int p = 0; p < kValues; ++p, sums += 8) {
      asm("vmul.f32 %[t], %[w0], %[x]\n\t"
          "vmul.f32 %[u], %[w1], %[x]\n\t"
          "vadd.f32 %0, %0, %[t]\n\t"
          "vadd.f32 %1, %1, %[u]\n\t"
          "vmul.f32 %[t], %[w2], %[x]\n\t"
          "vmul.f32 %[u], %[w3], %[x]\n\t"
          "vadd.f32 %2, %2, %[t]\n\t"
          "vadd.f32 %3, %3, %[u]\n\t"
          "vmul.f32 %[t], %[w4], %[x]\n\t"
          "vmul.f32 %[u], %[w5], %[x]\n\t"
          "vadd.f32 %4, %4, %[t]\n\t"
          "vadd.f32 %5, %5, %[u]\n\t"
          "vmul.f32 %[t], %[w6], %[x]\n\t"
          "vmul.f32 %[u], %[w7], %[x]\n\t"
          "vadd.f32 %6, %6, %[t]\n\t"
          "vadd.f32 %7, %7, %[u]"
          : "+t"(sums[0]), "+t"(sums[1]), "+t"(sums[2]), "+t"(sums[3]), "+t"(sums[4]), "+t"(sums[5]), "+t"(sums[6]),
            "+t"(sums[7]), [t] "=&t"(product), [u] "=&t"(other)
          : [x] "t"(values[p]), [w0] "t"(a), [w1] "t"(b), [w2] "t"(c), [w3] "t"(d), [w4] "t"(e), [w5] "t"(f), [w6] "t"(g),
            [w7] "t"(h));
    }
  } else if constexpr (kCount == 4) {
    register float a asm("s0"), b asm("s1"), c asm("s2"), d asm("s3");
    asm("vldmia %4, {s0-s3}"
        : "=t"(a), "=t"(b), "=t"(c), "=t"(d)
        : "r"(from), "m"(*reinterpret_cast<const Numbers<4>*>(from)));
#pragma GCC unroll 8
    for (int p = 0; p < kValues; ++p, sums += 4) {
      asm("vmul.f32 %[t], %[w0], %[x]\n\t"
          "vmul.f32 %[u], %[w1], %[x]\n\t"
          "vadd.f32 %0, %0, %[t]\n\t"
          "vadd.f32 %1, %1, %[u]\n\t"
          "vmul.f32 %[t], %[w2], %[x]\n\t"
          "vmul.f32 %[u], %[w3], %[x]\n\t"
          "vadd.f32 %2, %2, %[t]\n\t"
          "vadd.f32 %3, %3, %[u]"
          : "+t"(sums[0]), "+t"(sums[1]), "+t"(sums[2]), "+t"(sums[3]), [t] "=&t"(product), [u] "=&t"(other)
          : [x] "t"(values[p]), [w0] "t"(a), [w1] "t"(b), [w2] "t"(c), [w3] "t"(d));
    }
  } else if constexpr (kValues == 1 && kCount > 4) {
    add_products<1, 4>(sums, from, values);
    add_products<1, kCount - 4>(sums + 4, from + 4, values);
  } else {
    // The compiler's own loads, which it distributes over all registers.
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      const float factor = from[i];
#pragma GCC unroll 8
      for (int p = 0; p < kValues; ++p) sums[p * kCount + i] += values[p] * factor;
    }
  }
}

template <int kValues, int kCount>
[[gnu::always_inline]] inline void add_outer_products(float* sums, const float* from, const float* values) {
  if constexpr (kValues == 4 && kCount == 4) {
    register float a asm("s4"), b asm("s5"), c asm("s6"), d asm("s7");
    asm("vldmia %4, {s4-s7}"
        : "=t"(a), "=t"(b), "=t"(c), "=t"(d)
        : "r"(values), "m"(*reinterpret_cast<const Numbers<4>*>(values)));
    const float value[] = {a, b, c, d};
    add_products<4, 4>(sums, from, value);
  } else {
    float value[kValues];
#pragma GCC unroll 8
    for (int p = 0; p < kValues; ++p) value[p] = values[p];
    add_products<kValues, kCount>(sums, from, value);
  }
}

// A row of four numbers times a vector; here the last addition waits for the one before.
[[gnu::always_inline]] inline void add_dot(float& sum, const float* from, const float* factors) {
  asm("vldmia %[from], {s0-s3}\n\t"
      "vmul.f32 s0, s0, %[f0]\n\t"
      "vmul.f32 s1, s1, %[f1]\n\t"
      "vadd.f32 %[sum], %[sum], s0\n\t"
      "vmul.f32 s2, s2, %[f2]\n\t"
      "vadd.f32 %[sum], %[sum], s1\n\t"
      "vmul.f32 s3, s3, %[f3]\n\t"
      "vadd.f32 %[sum], %[sum], s2\n\t"
      "vadd.f32 %[sum], %[sum], s3"
      : [sum] "+t"(sum)
      : [from] "r"(from), [f0] "t"(factors[0]), [f1] "t"(factors[1]), [f2] "t"(factors[2]), [f3] "t"(factors[3]),
        "m"(*reinterpret_cast<const Numbers<4>*>(from))
      : "s0", "s1", "s2", "s3");
}

// Two rows of four numbers times one vector, and times two.
[[gnu::always_inline]] inline void add_two_dots(float* sums, const float* from, const float* next, const float* factors) {
  asm("vldmia %[from], {s0-s3}\n\t"
      "vldmia %[next], {s4-s7}\n\t"
      "vmul.f32 s0, s0, %[f0]\n\t"
      "vmul.f32 s4, s4, %[f0]\n\t"
      "vmul.f32 s1, s1, %[f1]\n\t"
      "vmul.f32 s5, s5, %[f1]\n\t"
      "vadd.f32 %[a], %[a], s0\n\t"
      "vadd.f32 %[b], %[b], s4\n\t"
      "vmul.f32 s2, s2, %[f2]\n\t"
      "vmul.f32 s6, s6, %[f2]\n\t"
      "vadd.f32 %[a], %[a], s1\n\t"
      "vadd.f32 %[b], %[b], s5\n\t"
      "vmul.f32 s3, s3, %[f3]\n\t"
      "vmul.f32 s7, s7, %[f3]\n\t"
      "vadd.f32 %[a], %[a], s2\n\t"
      "vadd.f32 %[b], %[b], s6\n\t"
      "vadd.f32 %[a], %[a], s3\n\t"
      "vadd.f32 %[b], %[b], s7"
      : [a] "+t"(sums[0]), [b] "+t"(sums[1])
      : [from] "r"(from), [next] "r"(next), [f0] "t"(factors[0]), [f1] "t"(factors[1]), [f2] "t"(factors[2]),
        [f3] "t"(factors[3]), "m"(*reinterpret_cast<const Numbers<4>*>(from)), "m"(*reinterpret_cast<const Numbers<4>*>(next))
      : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
}

// A row of four numbers times two vectors.
[[gnu::always_inline]] inline void add_dots_of_two(float& first, float& second, const float* from, const float* factors) {
  float product, other;
  asm("vldmia %[from], {s0-s3}\n\t"
      "vmul.f32 %[t], s0, %[f0]\n\t"
      "vmul.f32 %[u], s0, %[g0]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vmul.f32 %[t], s1, %[f1]\n\t"
      "vmul.f32 %[u], s1, %[g1]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vmul.f32 %[t], s2, %[f2]\n\t"
      "vmul.f32 %[u], s2, %[g2]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vmul.f32 %[t], s3, %[f3]\n\t"
      "vmul.f32 %[u], s3, %[g3]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vadd.f32 %[b], %[b], %[u]"
      : [a] "+t"(first), [b] "+t"(second), [t] "=&t"(product), [u] "=&t"(other)
      : [from] "r"(from), [f0] "t"(factors[0]), [f1] "t"(factors[1]), [f2] "t"(factors[2]), [f3] "t"(factors[3]),
        [g0] "t"(factors[4]), [g1] "t"(factors[5]), [g2] "t"(factors[6]), [g3] "t"(factors[7]),
        "m"(*reinterpret_cast<const Numbers<4>*>(from))
      : "s0", "s1", "s2", "s3");
}

// A row of four numbers times three vectors.
[[gnu::always_inline]] inline void add_dots_of_three(float& first, float& second, float& third, const float* from,
                                                     const float* factors) {
  float product, other;
  asm("vldmia %[from], {s0-s3}\n\t"
      "vmul.f32 %[t], s0, %[f0]\n\t"
      "vmul.f32 %[u], s0, %[g0]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vmul.f32 %[t], s0, %[h0]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vadd.f32 %[c], %[c], %[t]\n\t"
      "vmul.f32 %[t], s1, %[f1]\n\t"
      "vmul.f32 %[u], s1, %[g1]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vmul.f32 %[t], s1, %[h1]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vadd.f32 %[c], %[c], %[t]\n\t"
      "vmul.f32 %[t], s2, %[f2]\n\t"
      "vmul.f32 %[u], s2, %[g2]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vmul.f32 %[t], s2, %[h2]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vadd.f32 %[c], %[c], %[t]\n\t"
      "vmul.f32 %[t], s3, %[f3]\n\t"
      "vmul.f32 %[u], s3, %[g3]\n\t"
      "vadd.f32 %[a], %[a], %[t]\n\t"
      "vmul.f32 %[t], s3, %[h3]\n\t"
      "vadd.f32 %[b], %[b], %[u]\n\t"
      "vadd.f32 %[c], %[c], %[t]"
      : [a] "+t"(first), [b] "+t"(second), [c] "+t"(third), [t] "=&t"(product), [u] "=&t"(other)
      : [from] "r"(from), [f0] "t"(factors[0]), [f1] "t"(factors[1]), [f2] "t"(factors[2]), [f3] "t"(factors[3]),
        [g0] "t"(factors[4]), [g1] "t"(factors[5]), [g2] "t"(factors[6]), [g3] "t"(factors[7]), [h0] "t"(factors[8]),
        [h1] "t"(factors[9]), [h2] "t"(factors[10]), [h3] "t"(factors[11]), "m"(*reinterpret_cast<const Numbers<4>*>(from))
      : "s0", "s1", "s2", "s3");
}

template <int kVectors, int kRows, int kCount>
[[gnu::always_inline]] inline void add_dots(float* sums, const float* from, int apart, const float* factors) {
  if constexpr (kCount == 4 && kVectors == 2) {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) add_dots_of_two(sums[row], sums[kRows + row], from + row * apart, factors);
  } else if constexpr (kCount == 4 && kVectors == 3) {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row)
      add_dots_of_three(sums[row], sums[kRows + row], sums[2 * kRows + row], from + row * apart, factors);
  } else if constexpr (kCount == 4 && kVectors == 1 && kRows == 1) {
    add_dot(sums[0], from, factors);
  } else if constexpr (kCount == 4 && kVectors == 1 && kRows >= 2) {
    add_two_dots(sums, from, from + apart, factors);
    add_dots<1, kRows - 2, 4>(sums + 2, from + 2 * apart, apart, factors);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        const float number = from[row * apart + i];
#pragma GCC unroll 8
        for (int p = 0; p < kVectors; ++p) sums[p * kRows + row] += number * factors[p * kCount + i];
      }
    }
  }
}

// Up to infinity, floats above 0 are ordered like their bits; the bits of negative ones and of NaN are larger.
template <bool kRelu, int kCount>
[[gnu::always_inline]] inline void store_rectified(float* to, const float* sums) {
  if constexpr (kRelu && kCount >= 4) {
    asm("vmov r0, %[s0]\n\t"
        "vmov r1, %[s1]\n\t"
        "vmov r2, %[s2]\n\t"
        "vmov r3, %[s3]\n\t"
        "cmp r0, #0x7f800000\n\t"
        "it hi\n\t"
        "movhi r0, #0\n\t"
        "cmp r1, #0x7f800000\n\t"
        "it hi\n\t"
        "movhi r1, #0\n\t"
        "cmp r2, #0x7f800000\n\t"
        "it hi\n\t"
        "movhi r2, #0\n\t"
        "cmp r3, #0x7f800000\n\t"
        "it hi\n\t"
        "movhi r3, #0\n\t"
        "stmia %[to], {r0-r3}"
        : "=m"(*reinterpret_cast<Numbers<4>*>(to))
        : [to] "r"(to), [s0] "t"(sums[0]), [s1] "t"(sums[1]), [s2] "t"(sums[2]), [s3] "t"(sums[3])
        : "r0", "r1", "r2", "r3", "cc");
    store_rectified<kRelu, kCount - 4>(to + 4, sums + 4);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) to[i] = rectified<kRelu>(sums[i]);
  }
}

// The same for places that are kApart from one another, two at a time.
template <bool kRelu, int kCount, int kApart>
[[gnu::always_inline]] inline void store_rectified_apart(float* to, const float* sums) {
  if constexpr (kRelu && kCount >= 2) {
    uint32_t a, b;
    asm("vmov %[a], %[s0]\n\t"
        "vmov %[b], %[s1]\n\t"
        "cmp %[a], %[most]\n\t"
        "it hi\n\t"
        "movhi %[a], #0\n\t"
        "cmp %[b], %[most]\n\t"
        "it hi\n\t"
        "movhi %[b], #0\n\t"
        "str %[a], %[t0]\n\t"
        "str %[b], %[t1]"
        : [a] "=&l"(a), [b] "=&l"(b), [t0] "=m"(to[0]), [t1] "=m"(to[kApart])
        : [s0] "t"(sums[0]), [s1] "t"(sums[1]), [most] "rI"(0x7F800000)
        : "cc");
    store_rectified_apart<kRelu, kCount - 2, kApart>(to + 2 * kApart, sums + 2);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) to[i * kApart] = rectified<kRelu>(sums[i]);
  }
}

// A gradient is masked with 0 where x is +0: a ReLU's output is 0 or above 0, never -0 or NaN.
template <bool kMask, int kCount>
[[gnu::always_inline]] inline void store_masked(float* to, const float* sums, const float* x) {
  if constexpr (kMask && kCount >= 4) {
    float a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    asm("ldmia %[x], {r0-r3}\n\t"
        "cmp r0, #0\n\t"
        "it eq\n\t"
        "vmoveq %[a], %[zero]\n\t"
        "cmp r1, #0\n\t"
        "it eq\n\t"
        "vmoveq %[b], %[zero]\n\t"
        "cmp r2, #0\n\t"
        "it eq\n\t"
        "vmoveq %[c], %[zero]\n\t"
        "cmp r3, #0\n\t"
        "it eq\n\t"
        "vmoveq %[d], %[zero]"
        : [a] "+t"(a), [b] "+t"(b), [c] "+t"(c), [d] "+t"(d)
        : [x] "r"(x), [zero] "t"(0.0f), "m"(*reinterpret_cast<const Numbers<4>*>(x))
        : "r0", "r1", "r2", "r3", "cc");
    to[0] = a;
    to[1] = b;
    to[2] = c;
    to[3] = d;
    store_masked<kMask, kCount - 4>(to + 4, sums + 4, x + 4);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) to[i] = masked_by<kMask>(sums[i], x + i);
  }
}

// The same for places that are kApart from one another, two at a time.
template <bool kMask, int kCount, int kApart>
[[gnu::always_inline]] inline void store_masked_apart(float* to, const float* sums, const float* x) {
  if constexpr (kMask && kCount >= 2) {
    uint32_t a, b;
    float first = sums[0], second = sums[1];
    asm("ldr %[a], %[x0]\n\t"
        "ldr %[b], %[x1]\n\t"
        "cmp %[a], #0\n\t"
        "it eq\n\t"
        "vmoveq %[s0], %[zero]\n\t"
        "cmp %[b], #0\n\t"
        "it eq\n\t"
        "vmoveq %[s1], %[zero]"
        : [s0] "+t"(first), [s1] "+t"(second), [a] "=&l"(a), [b] "=&l"(b)
        : [x0] "m"(x[0]), [x1] "m"(x[kApart]), [zero] "t"(0.0f)
        : "cc");
    to[0] = first;
    to[kApart] = second;
    store_masked_apart<kMask, kCount - 2, kApart>(to + 2 * kApart, sums + 2, x + 2 * kApart);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) to[i * kApart] = masked_by<kMask>(sums[i], x + i * kApart);
  }
}

template <int kCount>
[[gnu::always_inline]] inline void subtract_products(float* place, const float* steps, const float& x) {
  float product, other;
  if constexpr (kCount == 8) {
    asm("vldmia %[place], {s0-s7}\n\t"
        "vmul.f32 %[t], %[s0], %[x]\n\t"
        "vmul.f32 %[u], %[s1], %[x]\n\t"
        "vsub.f32 s0, s0, %[t]\n\t"
        "vsub.f32 s1, s1, %[u]\n\t"
        "vmul.f32 %[t], %[s2], %[x]\n\t"
        "vmul.f32 %[u], %[s3], %[x]\n\t"
        "vsub.f32 s2, s2, %[t]\n\t"
        "vsub.f32 s3, s3, %[u]\n\t"
        "vmul.f32 %[t], %[s4], %[x]\n\t"
        "vmul.f32 %[u], %[s5], %[x]\n\t"
        "vsub.f32 s4, s4, %[t]\n\t"
        "vsub.f32 s5, s5, %[u]\n\t"
        "vmul.f32 %[t], %[s6], %[x]\n\t"
        "vmul.f32 %[u], %[s7], %[x]\n\t"
        "vsub.f32 s6, s6, %[t]\n\t"
        "vsub.f32 s7, s7, %[u]\n\t"
        "vstmia %[place], {s0-s7}"
        : [t] "=&t"(product), [u] "=&t"(other), "+m"(*reinterpret_cast<Numbers<8>*>(place))
        : [place] "r"(place), [x] "t"(x), [s0] "t"(steps[0]), [s1] "t"(steps[1]), [s2] "t"(steps[2]), [s3] "t"(steps[3]),
          [s4] "t"(steps[4]), [s5] "t"(steps[5]), [s6] "t"(steps[6]), [s7] "t"(steps[7])
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7");
  } else if constexpr (kCount >= 4) {
    asm("vldmia %[place], {s0-s3}\n\t"
        "vmul.f32 %[t], %[s0], %[x]\n\t"
        "vmul.f32 %[u], %[s1], %[x]\n\t"
        "vsub.f32 s0, s0, %[t]\n\t"
        "vsub.f32 s1, s1, %[u]\n\t"
        "vmul.f32 %[t], %[s2], %[x]\n\t"
        "vmul.f32 %[u], %[s3], %[x]\n\t"
        "vsub.f32 s2, s2, %[t]\n\t"
        "vsub.f32 s3, s3, %[u]\n\t"
        "vstmia %[place], {s0-s3}"
        : [t] "=&t"(product), [u] "=&t"(other), "+m"(*reinterpret_cast<Numbers<4>*>(place))
        : [place] "r"(place), [x] "t"(x), [s0] "t"(steps[0]), [s1] "t"(steps[1]), [s2] "t"(steps[2]), [s3] "t"(steps[3])
        : "s0", "s1", "s2", "s3");
    subtract_products<kCount - 4>(place + 4, steps + 4, x);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) place[i] = place[i] - steps[i] * x;
  }
}

template <int kCount>
[[gnu::always_inline]] inline void add_dot_subtract_products(float& sum, float* place, const float* factors,
                                                             const float* steps, const float& x) {
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

#endif
