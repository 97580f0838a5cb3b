// Where local weights start at every reconstruction: a fixed value, the same on every device and never sent.
#pragma once

#include <cstdint>

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf::local_start {

// +scale and -scale like a chessboard over [rows, columns].
template <typename T>
void alternating(T* weights, uint32_t rows, uint32_t columns, T scale) {
  for (uint32_t row = 0; row < rows; ++row, scale = -scale) {
    T value = scale;
    for (uint32_t column = 0; column < columns; ++column, value = -value) *weights++ = value;
  }
}

// Uniform in [-scale, scale); `first` is the tensor's place in the weight vector, so that no two tensors are alike.
template <typename T>
void random(T* weights, uint32_t count, uint32_t first, T scale) {
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t word = draw(0, 0, 0, protocol::Stream::kLocalStart, first + i).first;
    weights[i] = scale * (T(2) * T(uniform(word)) - T(1));
  }
}

template <typename T>
void zeros(T* weights, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) weights[i] = T(0);
}

}  // namespace tmf::local_start
