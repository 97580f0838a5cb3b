// Turns, scales and adds noise to the values of an input, with + - * / alone, so that every machine computes the same bits.
#pragma once

#include <cstdint>

#include "../prng.hpp"

namespace tmf::augment {

// A rotation in space, by the quaternion 1 + ai + bj + ck: no sine is needed, and every such matrix is a rotation but for
// rounding. About one axis alone its angle is 2 atan(a), 2 atan(b) or 2 atan(c).
struct Rotation {
  float row[3][3];

  Rotation(float a, float b, float c) {
    const float n = 2.0f / (1.0f + (a * a + b * b + c * c));
    row[0][0] = 1.0f - n * (b * b + c * c);
    row[0][1] = n * (a * b - c);
    row[0][2] = n * (a * c + b);
    row[1][0] = n * (a * b + c);
    row[1][1] = 1.0f - n * (a * a + c * c);
    row[1][2] = n * (b * c - a);
    row[2][0] = n * (a * c - b);
    row[2][1] = n * (b * c + a);
    row[2][2] = 1.0f - n * (a * a + b * b);
  }

  // Turns the x, y, z at `values`.
  void turn(float* values) const {
    const float x = values[0], y = values[1], z = values[2];
    for (uint32_t i = 0; i < 3; ++i) values[i] = row[i][0] * x + row[i][1] * y + row[i][2] * z;
  }
};

// A number in [-most, most).
inline float within(float most, uint32_t word) { return most * (2.0f * uniform(word) - 1.0f); }

// A random number that is nearly normal, times 147.80: the sum of four bytes around its mean. Its sides end at 3.45 standard
// deviations.
inline float noise(uint32_t word) {
  const uint32_t sum = (word & 0xFF) + (word >> 8 & 0xFF) + (word >> 16 & 0xFF) + (word >> 24);
  return static_cast<float>(static_cast<int32_t>(sum) - 510);
}

}  // namespace tmf::augment
