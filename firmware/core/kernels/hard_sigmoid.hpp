// Hard sigmoid, element by element: x / 6 + 1/2, but at least 0 and at most 1.
#pragma once

namespace tmf::kernels {

constexpr float kSixth = 1.0f / 6.0f;

template <typename T>
T hard_logistic(const T& x) {
  const T one = T{} + 1.0f;
  const T line = x * kSixth + 0.5f;
  const T above = line > T{} ? line : T{};
  return above < one ? above : one;
}

// y may be stored in place of x, and dx in place of dy.
template <int kSize>
struct HardSigmoid {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = hard_logistic(x[i]);
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    const T one = T{} + 1.0f;
    for (int i = 0; i < kSize; ++i) {
      const T below = y[i] < one ? T(dy[i] * kSixth) : T{};
      dx[i] = y[i] > T{} ? below : T{};
    }
  }
};

}  // namespace tmf::kernels
