// Gradient clipping by norm: scales a layer's output gradient down to a largest norm before the layer uses it.
#pragma once

#include <cstdint>

#include "elementary.hpp"

namespace tmf::kernels {

// y = x min(1, limit / |x|); kLimit is the bit pattern of the float limit. The norm adds squares in ascending order to 0. y may
// be stored in place of x.
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
