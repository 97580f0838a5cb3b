// ReLU as a layer of its own, for the places where it cannot be folded into the layer before it.
#pragma once

namespace tmf::kernels {

template <int kSize>
struct Relu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = x[i] > T(0) ? x[i] : T(0);
  }

  template <typename T>
  static void backward(const T* x, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = x[i] > T(0) ? dy[i] : T(0);
  }
};

}  // namespace tmf::kernels
