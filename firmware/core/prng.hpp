// Counter-based random numbers: Threefry-2x32, 20 rounds (Salmon et al., SC'11); a draw is the same on every machine.
#pragma once

#include <cstdint>

#include "protocol.hpp"

namespace tmf {

struct Pair {
  uint32_t first;
  uint32_t second;
};

Pair threefry(Pair key, Pair counter);

// Whose random numbers: those of a client in a round of the run; all 0: everybody's, at any time.
struct Key {
  uint32_t seed = 0;
  uint32_t client = 0;
  uint32_t round = 0;
};

// The project's one way to name a draw; `index` has 24 bits.
inline Pair draw(uint32_t seed, uint32_t client, uint32_t round, protocol::Stream stream, uint32_t index) {
  return threefry({seed, client}, {round, static_cast<uint32_t>(stream) << 24 | (index & 0xFFFFFF)});
}

// A draw in [0, 1): the upper 24 bits, exact in float32.
inline float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace tmf
