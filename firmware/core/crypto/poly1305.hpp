// Poly1305 of RFC 8439 without the addition at its end: a hash of 16 bytes, where two messages collide for few of its 2^106 factors.
//
// It is no MAC by itself: who sees hashes can compute the factor. A pseudorandom function of the hash is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bytes.hpp"

namespace tmf {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they are in memory");

class Poly1305 {
 public:
  static constexpr size_t kBytes = 16;  // of a hash, and of a factor

  // Writes the hash of `size` bytes to `to`. Of the factor's bytes those bits do not count that RFC 8439 clamps. No branch and no
  // address depends on factor or message.
  [[gnu::noinline]] static void hash(const uint8_t* factor, const uint8_t* from, size_t size, uint8_t* to) {
    const uint32_t r0 = load_u32(factor) & 0x0FFFFFFF, r1 = load_u32(factor + 4) & 0x0FFFFFFC;
    const uint32_t r2 = load_u32(factor + 8) & 0x0FFFFFFC, r3 = load_u32(factor + 12) & 0x0FFFFFFC;
    // 2^130 is 5 modulo the prime, so 2^128 times r1 is 5/4 of it: four divides it.
    const uint32_t factors[] = {0, r1 + (r1 >> 2), r2 + (r2 >> 2), r3 + (r3 >> 2), r0, r1, r2, r3};
    uint32_t h[] = {0, 0, 0, 0};
    uint32_t h4 = 0;  // below 3 * 2^30: carried over only in the next addition
    while (size > 0) {
      uint8_t last[kBytes];
      const uint8_t* block = from;
      const size_t part = size < kBytes ? size : kBytes;
      if (part < kBytes) {
        std::memset(last, 0, sizeof last);
        std::memcpy(last, from, part);
        last[part] = 1;
        block = last;
      }
      from += part;
      size -= part;
      uint64_t sum = uint64_t{(h4 >> 2) * 5} + h[0] + load_u32(block);
      uint32_t s0 = low(sum);
      sum = uint64_t{h[1]} + load_u32(block + 4) + high(sum);
      uint32_t s1 = low(sum);
      sum = uint64_t{h[2]} + load_u32(block + 8) + high(sum);
      uint32_t s2 = low(sum);
      sum = uint64_t{h[3]} + load_u32(block + 12) + high(sum);
      uint32_t s3 = low(sum);
      uint32_t s4 = (h4 & 3) + static_cast<uint32_t>(part / kBytes) + high(sum);  // at most 6
      // No instruction: numbers of 32 bits from here on, so that compilers find products of 32 bits.
      asm("" : "+r"(s0), "+r"(s1), "+r"(s2), "+r"(s3), "+r"(s4));
      sum = 0;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const uint32_t* const r = factors + 4 + i;
        sum = high(sum) + product(s0, r[0]) + product(s1, r[-1]) + product(s2, r[-2]) + product(s3, r[-3]) + product(s4, r[-4]);
        h[i] = low(sum);
      }
      h4 = high(sum) + s4 * r0;
    }
    // Subtracts the prime if that leaves a number: if 5 more is 2^130 or above.
    uint32_t more = 5;
    for (int pass = 0; pass < 2; ++pass) {
      more += (h4 >> 2) * 5;
      for (size_t i = 0; i < 4; ++i) {
        const uint64_t sum = uint64_t{h[i]} + more;
        const uint32_t word = low(sum);
        std::memcpy(to + 4 * i, &word, sizeof word);
        more = high(sum);
      }
      more = ((h4 & 3) + more) / 4 * 5;
    }
  }

 private:
  static uint32_t low(uint64_t number) { return static_cast<uint32_t>(number); }
  static uint32_t high(uint64_t number) { return static_cast<uint32_t>(number >> 32); }
  static uint64_t product(uint32_t one, uint32_t other) { return uint64_t{one} * other; }
};

}  // namespace tmf
