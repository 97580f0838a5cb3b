// Clipping by norm: a layer's output gradient, shortened to a limit before the layer uses it; no other buffer.
#pragma once

#include <cstdint>

#include "elementary.hpp"

namespace tmf::kernels {

// y = x min(1, limit / |x|), kLimit being the bits of a float; the norm adds squares in ascending order to 0. y and x may
// be one place.
template <int kSize, uint32_t kLimit>
struct ClipNorm {
  template <typename T>
  static void forward(const T* x, T* y) {
    T squares = T{};
    for (int i = 0; i < kSize; ++i) squares += x[i] * x[i];
    const T norm = Elementary<T>::sqrt(squares);
    const T limit = T{} + bits_of<float>(kLimit);
    const T scale = norm > limit ? limit / norm : T{} + 1.0f;
    for (int i = 0; i < kSize; ++i) y[i] = x[i] * scale;
  }
};

}  // namespace tmf::kernels
