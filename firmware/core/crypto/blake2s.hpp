// BLAKE2s of RFC 7693: a hash of up to 32 bytes; with a key, a message authentication code or a secret random function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tmf {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are hashed as they are in memory");

class Blake2s {
 public:
  static constexpr size_t kMaxDigestBytes = 32;
  static constexpr size_t kMaxKeyBytes = 32;
  static constexpr size_t kBlockBytes = 64;

  // The hash after the block of its key, for many hashes with one key.
  struct State {
    uint32_t words[8];
  };

  // Writes the state of a hash with a key to which nothing was added; nothing may be added afterwards.
  void keep(State& state) {
    compress(false);
    std::memcpy(state.words, state_, sizeof state.words);
  }

  // Continues from a state of the same `digest_bytes`; as RFC 7693 has it, but for data of no bytes.
  Blake2s(size_t digest_bytes, const State& state) : counted_(kBlockBytes), digest_bytes_(digest_bytes) {
    std::memcpy(state_, state.words, sizeof state_);
  }

  // `digest_bytes` are 1 to 32; `key_bytes` are 0 to 32, 0 for a hash without a key.
  explicit Blake2s(size_t digest_bytes, const uint8_t* key = nullptr, size_t key_bytes = 0) : digest_bytes_(digest_bytes) {
    for (size_t i = 0; i < 8; ++i) state_[i] = kStart[i];
    state_[0] ^= 0x01010000u ^ static_cast<uint32_t>(key_bytes) << 8 ^ static_cast<uint32_t>(digest_bytes);
    if (key_bytes == 0) return;
    std::memset(block_, 0, sizeof block_);
    std::memcpy(block_, key, key_bytes);
    filled_ = kBlockBytes;
  }

  void add(const void* data, size_t size) {
    const auto* from = static_cast<const uint8_t*>(data);
    while (size > 0) {
      if (filled_ == kBlockBytes) {  // only now is it known that this block is not the last
        compress(false);
        filled_ = 0;
      }
      const size_t part = kBlockBytes - filled_ < size ? kBlockBytes - filled_ : size;
      std::memcpy(bytes() + filled_, from, part);
      filled_ += part;
      from += part;
      size -= part;
    }
  }

  // Writes the digest; nothing may be added afterwards.
  void finish(uint8_t* digest) {
    std::memset(bytes() + filled_, 0, kBlockBytes - filled_);
    compress(true);
    std::memcpy(digest, state_, digest_bytes_);
  }

 private:
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(block_); }

  static constexpr uint32_t kStart[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                         0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  static constexpr size_t kRounds = 10;
  // The words of the message in the order in which they are taken, four bits each from the lowest on.
  static constexpr uint32_t kOrder[kRounds][2] = {
      {0x76543210, 0xFEDCBA98}, {0x6DF984AE, 0x357B20C1}, {0xDF250C8B, 0x491763EA}, {0xEBCD1397, 0x8F04A562},
      {0xFA427509, 0xD386CB1E}, {0x38B0A6C2, 0x91EF57D4}, {0xA4DEF15C, 0xB8293670}, {0x931CE7BD, 0xA2684F05},
      {0x803B9EF6, 0x5A417D2C}, {0x5167482A, 0x0DC3E9BF},
  };

  static uint32_t rotated(uint32_t word, unsigned right) { return word >> right | word << (32 - right); }

  static uint32_t rotated_left(uint32_t word, unsigned left) { return rotated(word, 32 - left); }

  // The function G of RFC 7693, where b and d stand for themselves rotated by kLagB and kLagD to the right, before and after. A
  // rotation that only the next use carries out is free where an operand of an addition can be rotated, as on ARM.
  [[gnu::always_inline]] static inline void mix(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, uint32_t x, uint32_t y) {
    a += rotated(b, kLagB) + x;
    d = rotated(d, kLagD) ^ a;
    c += rotated(d, 16);
    b = rotated(b, kLagB) ^ c;
    a += rotated(b, 12) + y;
    d = rotated(d, 16) ^ a;
    c += rotated(d, kLagD);
    b = rotated(b, 12) ^ c;
  }
  static constexpr unsigned kLagB = 7;
  static constexpr unsigned kLagD = 8;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunknown-pragmas"  // a compiler without the next pragmas keeps its own optimisation level
#pragma GCC push_options
// Scheduled before registers are allocated, the words would need more of them than there are: a sixth more instructions on a Cortex-M4.
#pragma GCC optimize("O2", "no-schedule-insns", "no-tree-ch")

  // Compresses the block; behind its data are zeros.
  [[gnu::noinline]] void compress(bool last) {
    counted_ += static_cast<uint32_t>(filled_);
    const uint32_t* const m = block_;
    const auto word = [m](uint32_t words, unsigned place) { return m[words >> 4 * place & 15]; };
    // Single variables and no inner loop, so that they are in registers as far as these suffice.
    uint32_t a0 = state_[0], a1 = state_[1], a2 = state_[2], a3 = state_[3];
    uint32_t b0 = rotated_left(state_[4], kLagB), b1 = rotated_left(state_[5], kLagB);
    uint32_t b2 = rotated_left(state_[6], kLagB), b3 = rotated_left(state_[7], kLagB);
    const uint32_t* start = kStart;
    asm("" : "+r"(start));  // no instruction: otherwise each number of the start would be in the flash a second time
    uint32_t c0 = start[0], c1 = start[1], c2 = start[2], c3 = start[3];
    uint32_t d0 = rotated_left(start[4] ^ counted_, kLagD), d1 = rotated_left(start[5], kLagD);
    uint32_t d2 = rotated_left(start[6] ^ (last ? ~uint32_t{0} : 0), kLagD), d3 = rotated_left(start[7], kLagD);
    for (const uint32_t(&order)[2] : kOrder) {
      // Each four may come in any order; in this one GCC stores the fewest variables in between.
      uint32_t words = order[0];
      mix(a0, b0, c0, d0, word(words, 0), word(words, 1));
      mix(a2, b2, c2, d2, word(words, 4), word(words, 5));
      mix(a3, b3, c3, d3, word(words, 6), word(words, 7));
      mix(a1, b1, c1, d1, word(words, 2), word(words, 3));
      words = order[1];
      mix(a0, b1, c2, d3, word(words, 0), word(words, 1));
      mix(a1, b2, c3, d0, word(words, 2), word(words, 3));
      mix(a2, b3, c0, d1, word(words, 4), word(words, 5));
      mix(a3, b0, c1, d2, word(words, 6), word(words, 7));
    }
    asm("" ::: "memory");  // no instruction: the state is loaded again, not kept on the stack
    state_[0] ^= a0 ^ c0;
    state_[1] ^= a1 ^ c1;
    state_[2] ^= a2 ^ c2;
    state_[3] ^= a3 ^ c3;
    state_[4] ^= rotated(b0, kLagB) ^ rotated(d0, kLagD);
    state_[5] ^= rotated(b1, kLagB) ^ rotated(d1, kLagD);
    state_[6] ^= rotated(b2, kLagB) ^ rotated(d2, kLagD);
    state_[7] ^= rotated(b3, kLagB) ^ rotated(d3, kLagD);
  }

#pragma GCC pop_options
#pragma GCC diagnostic pop

  uint32_t state_[8];
  uint32_t counted_ = 0;  // bytes compressed, fewer than 2^32
  size_t filled_ = 0;     // bytes in block_
  size_t digest_bytes_;
  uint32_t block_[kBlockBytes / 4];
};

}  // namespace tmf
