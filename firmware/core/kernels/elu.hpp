// ELU and SELU, element by element: scale x if x > 0, else scale alpha (e^x - 1).
#pragma once

#include <cstdint>

#include "elementary.hpp"

namespace tmf::kernels {

// kScale and kLowest are the bits of positive floats: of the scale and of scale * alpha. So y is positive where x is. y may be
// stored in place of x, and dx in place of dy.
template <int kSize, uint32_t kScale, uint32_t kLowest>
struct Elu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) {
      const T low = Elementary<T>::expm1(x[i]) * bits_of<float>(kLowest);
      y[i] = x[i] > T{} ? T(x[i] * bits_of<float>(kScale)) : low;
    }
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    const T scale = T{} + bits_of<float>(kScale);
    for (int i = 0; i < kSize; ++i) dx[i] = dy[i] * (y[i] > T{} ? scale : T(y[i] + bits_of<float>(kLowest)));
  }
};

}  // namespace tmf::kernels
