// ChaCha20 of RFC 8439: a stream of words that look random to all who do not have its key. The nonce is 0: a key has one stream.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf {

class ChaCha20 {
 public:
  static constexpr size_t kKeyBytes = 32;
  static constexpr size_t kBlockWords = 16;

  explicit ChaCha20(const uint8_t* key) {
    for (size_t i = 0; i < kKeyBytes; ++i) start_[4 + i / 4] |= static_cast<uint32_t>(key[i]) << 8 * (i % 4);
  }

  // Writes block `index` of the stream; its bytes are those of the words, lowest first.
  void write(uint32_t index, uint32_t (&block)[kBlockWords]) {
    start_[12] = index;
    for (size_t i = 0; i < kBlockWords; ++i) block[i] = start_[i];
    for (int round = 0; round < 10; ++round) {  // columns, then diagonals
      for (size_t i = 0; i < 4; ++i) mix(block[i], block[4 + i], block[8 + i], block[12 + i]);
      for (size_t i = 0; i < 4; ++i) mix(block[i], block[4 + (i + 1) % 4], block[8 + (i + 2) % 4], block[12 + (i + 3) % 4]);
    }
    for (size_t i = 0; i < kBlockWords; ++i) block[i] += start_[i];
  }

 private:
  static uint32_t rotated(uint32_t word, unsigned left) { return word << left | word >> (32 - left); }

  static void mix(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d) {
    a += b;
    d = rotated(d ^ a, 16);
    c += d;
    b = rotated(b ^ c, 12);
    a += b;
    d = rotated(d ^ a, 8);
    c += d;
    b = rotated(b ^ c, 7);
  }

  uint32_t start_[kBlockWords] = {0x61707865, 0x3320646E, 0x79622D32, 0x6B206574};
};

}  // namespace tmf
