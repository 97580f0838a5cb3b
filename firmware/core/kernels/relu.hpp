// ReLU: folded into the store of a layer and, backward, of the layer above it; an op of its own where that cannot be.
#pragma once

namespace tmf::kernels {

template <bool kRelu, typename T>
T rectified(const T& sum) {
  if constexpr (kRelu) return sum > T{} ? sum : T{};
  return sum;
}

// What reaches x, where x came out of a ReLU.
template <bool kMask, typename T>
T masked(const T& gradient, const T& x) {
  if constexpr (kMask) return x > T{} ? gradient : T{};
  return gradient;
}

// y and x may be one place, and so may dx and dy.
template <int kSize>
struct Relu {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = rectified<true>(x[i]);
  }

  template <typename T>
  static void backward(const T* y, const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = masked<true>(dy[i], y[i]);
  }
};

}  // namespace tmf::kernels
