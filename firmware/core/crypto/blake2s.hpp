// BLAKE2s of RFC 7693: a hash of up to 32 bytes; with a key, a message authentication code or a secret random function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tmf {

class Blake2s {
 public:
  static constexpr size_t kMaxDigestBytes = 32;
  static constexpr size_t kMaxKeyBytes = 32;

  // The hash after the block of its key, for many hashes with one key.
  struct State {
    uint32_t words[8];
  };

  // Writes the state of a hash with a key to which nothing was added; nothing may be added afterwards.
  void keep(State& state) {
    compress(block_, kBlockBytes, false);
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
        compress(block_, kBlockBytes, false);
        filled_ = 0;
      }
      if (filled_ == 0 && size > kBlockBytes) {  // whole blocks need no copy
        compress(from, kBlockBytes, false);
        from += kBlockBytes;
        size -= kBlockBytes;
        continue;
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
    compress(block_, filled_, true);
    for (size_t i = 0; i < digest_bytes_; ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> 8 * (i % 4));
  }

 private:
  static constexpr size_t kBlockBytes = 64;
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(block_); }

  static constexpr uint32_t kStart[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                         0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  static constexpr size_t kRounds = 10;
  static constexpr uint8_t kOrder[kRounds][16] = {
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
      {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
      {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
      {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
      {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
  };

  static uint32_t rotated(uint32_t word, unsigned right) { return word >> right | word << (32 - right); }

  // Four little-endian bytes as a number; where the machine can, compilers make one load of it.
  static uint32_t little_endian(const uint8_t* bytes) {
    return static_cast<uint32_t>(bytes[0]) | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
           static_cast<uint32_t>(bytes[3]) << 24;
  }

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
#pragma GCC optimize("O2", "no-schedule-insns")

  // Compresses a block of 64 bytes, which may be block_; `bytes` of it are data, the others zeros.
  [[gnu::noinline]] void compress(const void* block, size_t bytes, bool last) {
    counted_ += bytes;
    uint32_t* const m = block_;
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; ++i) m[i] = little_endian(static_cast<const uint8_t*>(block) + 4 * i);
    // Single variables and no inner loop, so that they are in registers as far as these suffice.
    uint32_t a0 = state_[0], a1 = state_[1], a2 = state_[2], a3 = state_[3];
    uint32_t b0 = rotated_left(state_[4], kLagB), b1 = rotated_left(state_[5], kLagB);
    uint32_t b2 = rotated_left(state_[6], kLagB), b3 = rotated_left(state_[7], kLagB);
    uint32_t c0 = kStart[0], c1 = kStart[1], c2 = kStart[2], c3 = kStart[3];
    uint32_t d0 = rotated_left(kStart[4] ^ static_cast<uint32_t>(counted_), kLagD);
    uint32_t d1 = rotated_left(kStart[5] ^ static_cast<uint32_t>(counted_ >> 32), kLagD);
    uint32_t d2 = rotated_left(last ? ~kStart[6] : kStart[6], kLagD), d3 = rotated_left(kStart[7], kLagD);
    for (const uint8_t(&order)[16] : kOrder) {
      // Each four may come in any order; in this one GCC stores the fewest variables in between.
      mix(a0, b0, c0, d0, m[order[0]], m[order[1]]);
      mix(a2, b2, c2, d2, m[order[4]], m[order[5]]);
      mix(a3, b3, c3, d3, m[order[6]], m[order[7]]);
      mix(a1, b1, c1, d1, m[order[2]], m[order[3]]);
      mix(a0, b1, c2, d3, m[order[8]], m[order[9]]);
      mix(a1, b2, c3, d0, m[order[10]], m[order[11]]);
      mix(a2, b3, c0, d1, m[order[12]], m[order[13]]);
      mix(a3, b0, c1, d2, m[order[14]], m[order[15]]);
    }
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
  uint64_t counted_ = 0;  // bytes compressed
  size_t filled_ = 0;     // bytes in block_
  size_t digest_bytes_;
  uint32_t block_[kBlockBytes / 4];
};

}  // namespace tmf
