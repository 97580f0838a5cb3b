// Where local weights start at a reconstruction: a fixed value or a draw, the same on every device, in every lane, and never sent.
#pragma once

#include <cstdint>

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf::local_start {

// T may be a vector with a client per lane: x - T{} puts x into every lane (x + T{} would turn -0 into 0).

// +scale and -scale like a chessboard over [rows, columns].
template <typename T>
void alternating(T* weights, uint32_t rows, uint32_t columns, float scale) {
  for (uint32_t row = 0; row < rows; ++row, scale = -scale) {
    float value = scale;
    for (uint32_t column = 0; column < columns; ++column, value = -value) *weights++ = value - T{};
  }
}

// Uniform in [-scale, scale); `first` is the tensor's place in the weight vector, so that no two tensors are alike.
template <typename T>
void random(T* weights, uint32_t count, uint32_t first, float scale, const Key& key = {}) {
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t word = draw(key.seed, key.client, key.round, protocol::Stream::kLocalStart, first + i).first;
    weights[i] = scale * (2.0f * uniform(word) - 1.0f) - T{};
  }
}

template <typename T>
void zeros(T* weights, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) weights[i] = T{};
}

}  // namespace tmf::local_start
