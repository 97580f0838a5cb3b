// X25519 of RFC 7748: two boards that know each other's public key compute one secret that nobody else can.
//
// No branch, no loop and no address depends on a secret. Numbers modulo p = 2^255 - 19 are eight words, lowest first, and need
// not be reduced: any number below 2^256 stands for its remainder. A carry out of the highest word counts 2^256 = 38 modulo p.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf {

class X25519 {
 public:
  static constexpr size_t kBytes = 32;

  // Writes `scalar` times the point with the coordinate `point` to `product`: 32 bytes each, little-endian, as RFC 7748 has them.
  static void multiply(const uint8_t* scalar, const uint8_t* point, uint8_t* product) {
    Number base, x2 = {{1}}, z2 = {}, x3, z3 = {{1}};
    read(point, base);
    x3 = base;
    uint32_t swapped = 0;
    for (int bit = 254; bit >= 0; --bit) {  // the Montgomery ladder of section 5; clamped, bit 254 is 1 and bits 0 to 2 are 0
      const uint32_t word = scalar[bit / 8] >> (bit % 8) & 1u;
      const uint32_t set = bit == 254 ? 1u : bit < 3 ? 0u : word;
      swap(set ^ swapped, x2, x3);
      swap(set ^ swapped, z2, z3);
      swapped = set;
      ladder_step(base, x2, z2, x3, z3);
    }
    swap(swapped, x2, x3);
    swap(swapped, z2, z3);
    // x2 / z2, where 1 / z2 = z2^(p - 2) (Fermat), and p - 2 has all of its 255 bits set but bits 2 and 4.
    Number inverse = z2;
    for (int bit = 253; bit >= 0; --bit) {
      multiply(inverse, inverse, inverse);
      if (bit != 2 && bit != 4) multiply(inverse, z2, inverse);
    }
    multiply(x2, inverse, x2);
    write(x2, product);
  }

  // Writes the public key of a private key.
  static void public_key(const uint8_t* private_key, uint8_t* key) {
    const uint8_t base[kBytes] = {9};
    multiply(private_key, base, key);
  }

 private:
  static constexpr size_t kWords = 8;
  static constexpr uint32_t kWrap = 38;  // 2^256 modulo p

  struct Number {
    uint32_t words[kWords];
  };

  static void read(const uint8_t* from, Number& to) {
    for (size_t i = 0; i < kWords; ++i) {
      to.words[i] = 0;
      for (size_t k = 0; k < 4; ++k) to.words[i] |= static_cast<uint32_t>(from[4 * i + k]) << 8 * k;
    }
    to.words[kWords - 1] &= 0x7FFFFFFFu;  // the highest bit of a coordinate is not used
  }

  static void write(Number& from, uint8_t* to) {
    for (int times = 0; times < 2; ++times) {  // below 2^255 + 19, then below 2^255
      const uint32_t high = from.words[kWords - 1] >> 31;
      from.words[kWords - 1] &= 0x7FFFFFFFu;
      add_small(19 * high, from);
    }
    // At least p exactly where adding 19 sets bit 255; then the rest is the remainder.
    Number plus = from;
    add_small(19, plus);
    const uint32_t mask = 0u - (plus.words[kWords - 1] >> 31);
    plus.words[kWords - 1] &= 0x7FFFFFFFu;
    for (size_t i = 0; i < kWords; ++i) {
      const uint32_t word = (plus.words[i] & mask) | (from.words[i] & ~mask);
      for (size_t k = 0; k < 4; ++k) to[4 * i + k] = static_cast<uint8_t>(word >> 8 * k);
    }
  }

  static void swap(uint32_t whether, Number& a, Number& b) {
    const uint32_t mask = 0u - whether;
    for (size_t i = 0; i < kWords; ++i) {
      const uint32_t difference = mask & (a.words[i] ^ b.words[i]);
      a.words[i] ^= difference;
      b.words[i] ^= difference;
    }
  }

  // a += small; returns the carry.
  static uint32_t add_small(uint32_t small, Number& a) {
    uint64_t carry = small;
    for (uint32_t& word : a.words) {
      carry += word;
      word = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    return static_cast<uint32_t>(carry);
  }

  // The carry of a sum counts 38; where adding that carries once more, what is left is below 38, so the third sum carries not.
  static void wrap(uint32_t carry, Number& a) { add_small(kWrap * add_small(kWrap * carry, a), a); }

  static void add(const Number& a, const Number& b, Number& sum) {
    uint64_t carry = 0;
    for (size_t i = 0; i < kWords; ++i) {
      carry += uint64_t{a.words[i]} + b.words[i];
      sum.words[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    wrap(static_cast<uint32_t>(carry), sum);
  }

  // a - b as a + (2^256 - 1 - b) + 1 - 2^256; without a carry out of that sum, 2^256 is owed: 38 are taken away.
  static void subtract(const Number& a, const Number& b, Number& difference) {
    uint64_t carry = 1;
    for (size_t i = 0; i < kWords; ++i) {
      carry += uint64_t{a.words[i]} + ~b.words[i];
      difference.words[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    for (int times = 0; times < 2; ++times) carry = take(kWrap * (1 - static_cast<uint32_t>(carry)), difference);
  }

  // a -= small; returns 1, or 0 where that borrows.
  static uint64_t take(uint32_t small, Number& a) {
    uint64_t borrow = small;
    for (uint32_t& word : a.words) {
      const uint64_t left = uint64_t{word} - borrow;
      word = static_cast<uint32_t>(left);
      borrow = left >> 63;
    }
    return 1 - borrow;
  }

  static void multiply(const Number& a, const Number& b, Number& product) {
    uint32_t all[2 * kWords] = {};
    for (size_t i = 0; i < kWords; ++i) {
      const uint32_t factor = a.words[i];
      uint32_t carry = 0;
      uint32_t* to = all + i;
      for (const uint32_t word : b.words) {
        const uint64_t sum = uint64_t{factor} * word + *to + carry;  // at most 2^64 - 1
        *to++ = static_cast<uint32_t>(sum);
        carry = static_cast<uint32_t>(sum >> 32);
      }
      *to = carry;
    }
    uint64_t carry = 0;
    for (size_t i = 0; i < kWords; ++i) {
      carry += uint64_t{all[i + kWords]} * kWrap + all[i];
      product.words[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    wrap(static_cast<uint32_t>(carry), product);
  }

  static void multiply(const Number& a, uint32_t small, Number& product) {
    uint64_t carry = 0;
    for (size_t i = 0; i < kWords; ++i) {
      carry += uint64_t{a.words[i]} * small;
      product.words[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    wrap(static_cast<uint32_t>(carry), product);  // `small` is below 2^17, so that 38 times the carry is below 2^32
  }

  // One step of the ladder, with the names of RFC 7748: (x2, z2) is doubled and (x3, z3) becomes the sum of both.
  static void ladder_step(const Number& base, Number& x2, Number& z2, Number& x3, Number& z3) {
    Number a, b, da, cb;
    add(x2, z2, a);
    subtract(x2, z2, b);
    add(x3, z3, x2);        // C
    subtract(x3, z3, z2);   // D
    multiply(z2, a, da);
    multiply(x2, b, cb);
    add(da, cb, x3);
    multiply(x3, x3, x3);
    subtract(da, cb, z3);
    multiply(z3, z3, z3);
    multiply(base, z3, z3);
    multiply(a, a, a);      // AA
    multiply(b, b, b);      // BB
    multiply(a, b, x2);
    subtract(a, b, b);      // E
    multiply(b, 121665u, z2);
    add(a, z2, z2);
    multiply(b, z2, z2);
  }
};

}  // namespace tmf
