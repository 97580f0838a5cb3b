// Difference of two tensors of one shape.
#pragma once

namespace tmf::kernels {

// y may be stored in place of a or b. There is no backward: the gradients are dy and -dy.
template <int kSize>
struct Subtract {
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = a[i] - b[i];
  }
};

}  // namespace tmf::kernels
