// ReLU6: min(max(0, x), 6), element by element.
#pragma once

namespace tmf::kernels {

// y may be stored in place of x, and dx in place of dy.
template <int kSize>
struct Relu6 {
  template <typename T>
  static void forward(const T* x, T* y) {
    const T six = T{} + 6.0f;
    for (int i = 0; i < kSize; ++i) {
      const T above = x[i] > T{} ? x[i] : T{};
      y[i] = above < six ? above : six;
    }
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    const T six = T{} + 6.0f;
    for (int i = 0; i < kSize; ++i) {
      const T below = y[i] < six ? dy[i] : T{};
      dx[i] = y[i] > T{} ? below : T{};
    }
  }
};

}  // namespace tmf::kernels
