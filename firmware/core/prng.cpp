// Threefry-2x32 with 20 rounds.
#include "prng.hpp"

namespace tmf {

Pair threefry(Pair key, Pair counter) {
  static constexpr uint8_t kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  constexpr uint32_t kParity = 0x1BD11BDA;
  const uint32_t keys[3] = {key.first, key.second, kParity ^ key.first ^ key.second};
  uint32_t x = counter.first + keys[0];
  uint32_t y = counter.second + keys[1];
  for (uint32_t group = 1; group <= 5; ++group) {
    for (const uint8_t rotation : kRotations[(group - 1) & 1]) {
      x += y;
      y = (y << rotation | y >> (32 - rotation)) ^ x;
    }
    x += keys[group % 3];
    y += keys[(group + 1) % 3] + group;
  }
  return {x, y};
}

}  // namespace tmf
