// Initial values of the local weights for a reconstruction: fixed or random, the same on every device, so never sent.
#pragma once

#include <cstdint>

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf::local_start {

// T may be a vector with a client per lane: x - T{} writes x to every lane (x + T{} would turn -0 into +0).

// +scale and -scale alternate along rows and columns of [rows, columns].
template <typename T>
void alternating(T* weights, uint32_t rows, uint32_t columns, float scale) {
  for (uint32_t row = 0; row < rows; ++row, scale = -scale) {
    float value = scale;
    for (uint32_t column = 0; column < columns; ++column, value = -value) *weights++ = value - T{};
  }
}

// Uniform in [-scale, scale). `first` is the tensor's offset in the weight vector: each tensor gets other random numbers.
template <typename T>
void random(T* weights, uint32_t count, uint32_t first, float scale, const Key& key = {}) {
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t word = draw(key.seed, key.client, key.round, protocol::Stream::kLocalStart, first + i).first;
    weights[i] = scale * (2.0f * uniform(word) - 1.0f) - T{};
  }
}

// All the same number: the factors of an affine layer, the slopes of a PReLU.
template <typename T>
void fill(T* weights, uint32_t count, float value) {
  for (uint32_t i = 0; i < count; ++i) weights[i] = value - T{};
}

// A given number each: means and variances of the input that are known before the device has seen any.
template <typename T>
void given(T* weights, const float* values, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) weights[i] = values[i] - T{};
}

// All zero.
template <typename T>
void zeros(T* weights, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) weights[i] = T{};
}

}  // namespace tmf::local_start
