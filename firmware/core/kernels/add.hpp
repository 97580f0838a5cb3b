// Sum of two tensors of one shape: for residual connections, and for the gradient of a tensor that several layers read.
#pragma once

namespace tmf::kernels {

// y may be stored in place of a or b. There is no backward: dy is the gradient of both a and b.
template <int kSize>
struct Add {
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = a[i] + b[i];
  }
};

}  // namespace tmf::kernels
