// Dense layer: forward, and backward fused with the SGD update; kernel is [inputs, units], bias [units].
#pragma once

#include "relu.hpp"

namespace tmf::kernels {

// The order of every sum is fixed, so that all machines compute the same bits: y[u] starts from the bias and adds inputs in
// ascending order; dx[i] starts from 0 and adds units in ascending order. A tile computes independent sums at the same time.
template <int kInputs, int kUnits, bool kRelu, int kUnitTile, int kInputTile>
struct Dense {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    int u = 0;
    for (; u + kUnitTile <= kUnits; u += kUnitTile) forward_tile<kUnitTile>(x, kernel + u, bias + u, y + u);
    if constexpr (kUnits % kUnitTile != 0) forward_tile<kUnits % kUnitTile>(x, kernel + u, bias + u, y + u);
  }

  // Writes dx if kDx, with 0 where x is 0 if kMask (x from a ReLU). Update changes kernel and bias, or leaves them (Hold).
  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    int i = 0;
    for (; i + kInputTile <= kInputs; i += kInputTile)
      backward_tile<kInputTile, Update, kDx, kMask>(x + i, dy, dx + i, kernel + i * kUnits, rate);
    if constexpr (kInputs % kInputTile != 0)
      backward_tile<kInputs % kInputTile, Update, kDx, kMask>(x + i, dy, dx + i, kernel + i * kUnits, rate);
    if constexpr (Update::kMoves) {
      T* const biases = Update::template writable<T>(bias);
      int u = 0;
      for (; u + kUnitTile <= kUnits; u += kUnitTile) bias_tile<kUnitTile, Update>(dy + u, biases + u, rate);
      if constexpr (kUnits % kUnitTile != 0) bias_tile<kUnits % kUnitTile, Update>(dy + u, biases + u, rate);
    }
  }

 private:
  template <int kTile, typename T, typename W>
  static void forward_tile(const T* x, const W* kernel, const W* bias, T* y) {
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) sum[t] = bias[t] - T{};  // to every lane of T; + T{} would turn -0 into +0
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) {
      const T xi = x[i];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[t] += xi * kernel[t];
      kernel += kUnits;
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) y[t] = rectified<kRelu>(sum[t]);
  }

  // Visits each weight once: adds its contribution to dx with the old value, then updates it.
  template <int kTile, typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward_tile(const T* x, const T* dy, T* dx, W* kernel, T rate) {
    T input[kTile];
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) {
      input[t] = x[t];
      sum[t] = T{};
    }
    for (int u = 0; u < kUnits; ++u) {
      const T gradient = dy[u];
      const T step = rate * gradient;
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) {
        const W weight = kernel[t * kUnits];
        if constexpr (kDx) sum[t] += weight * gradient;
        if constexpr (Update::kMoves) Update::move(kernel + t * kUnits, weight, step * input[t], rate);
      }
      ++kernel;
    }
    if constexpr (kDx) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) dx[t] = masked<kMask>(sum[t], input[t]);
    }
  }

  template <int kTile, typename Update, typename T>
  static void bias_tile(const T* dy, T* bias, T rate) {
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) Update::move(bias + t, bias[t], rate * dy[t], rate);
  }
};

}  // namespace tmf::kernels
