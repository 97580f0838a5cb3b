// Counter-based random numbers, the same on every machine: Threefry-2x32 with 20 rounds (Salmon et al., SC'11).
#pragma once

#include <cstdint>

#include "protocol.hpp"

namespace tmf {

// Two 32-bit words: a key, a counter or a random number.
struct Pair {
  uint32_t first;
  uint32_t second;
};

// The random number that belongs to a key and a counter.
Pair threefry(Pair key, Pair counter);

// Identifies the random numbers of one client in one round of a run. All 0: those that all clients share in all rounds.
struct Key {
  uint32_t seed = 0;
  uint32_t client = 0;
  uint32_t round = 0;
};

// Random number `index` of a stream; `index` has 24 bits. All random numbers of the firmware come from here.
inline Pair draw(uint32_t seed, uint32_t client, uint32_t round, protocol::Stream stream, uint32_t index) {
  return threefry({seed, client}, {round, static_cast<uint32_t>(stream) << 24 | (index & 0xFFFFFF)});
}

// A random number in [0, 1) from a word's upper 24 bits, which float32 holds exactly.
inline float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace tmf
