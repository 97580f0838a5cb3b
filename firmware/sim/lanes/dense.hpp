// Dense layer of many clients, one in each lane: as many sums at once as registers hold, and a backward pass in the order in which
// weights are still in the cache.
#pragma once

#include "kernels/dense.hpp"
#include "parts.hpp"

namespace tmf::sim::lanes {

// Of kernels/dense.hpp, with its orders of summation.
template <int kInputs, int kUnits, bool kRelu, int kUnitTile, int kInputTile>
struct Dense : kernels::Dense<kInputs, kUnits, kRelu, kUnitTile, kInputTile> {
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    in_parts<kUnits, kSums>([=](auto units, int u) __attribute__((always_inline)) {
      constexpr int kCount = units();
      T sum[kCount];
#pragma GCC unroll 16
      for (int t = 0; t < kCount; ++t) sum[t] = bias[u + t] - T{};
      const W* weight = kernel + u;
#pragma GCC unroll 2
      for (int i = 0; i < kInputs; ++i, weight += kUnits) {
        const T input = loaded(x + i);
#pragma GCC unroll 16
        for (int t = 0; t < kCount; ++t) sum[t] += weight[t] * input;
      }
#pragma GCC unroll 16
      for (int t = 0; t < kCount; ++t) y[u + t] = kernels::rectified<kRelu>(sum[t]);
    });
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    if constexpr (kDx && Update::kMoves) {
      move_all<Update, kMask>(x, dy, dx, Update::template writable<T>(kernel), rate);
      T* const biases = Update::template writable<T>(bias);
      for (int u = 0; u < kUnits; ++u) kernels::move_adjacent<Update, 1>(biases + u, dy + u, rate);
    } else {
      kernels::Dense<kInputs, kUnits, kRelu, kUnitTile, kInputTile>::template backward<Update, kDx, kMask>(x, dy, dx, kernel, bias, rate);
    }
  }

 private:
  static constexpr int kSums = kHasManyRegisters ? 16 : 8;  // computed at once, forward

  // Weights of more inputs would be further apart than 4 KiB: a load waits for a store whose lowest 12 address bits are its own.
  static constexpr int kTile = kInputs < 4 ? kInputs : 4;

  // From the last input to the first: the forward pass, which ended with the last ones, has left these in the cache.
  template <typename Update, bool kMask, typename T>
  static void move_all(const T* x, const T* dy, T* dx, T* kernel, const T& rate) {
    int i = kInputs;
    while (i >= kTile) {
      i -= kTile;
      move_tile<kTile, Update, kMask>(x + i, dy, dx + i, kernel + i * kUnits, rate);
    }
    if constexpr (kInputs % kTile != 0) move_tile<kInputs % kTile, Update, kMask>(x, dy, dx, kernel, rate);
  }

  // Visits each weight once: adds its contribution to dx with the old value, then updates it.
  template <int kCount, typename Update, bool kMask, typename T>
  static void move_tile(const T* x, const T* dy, T* dx, T* kernel, const T& rate) {
    T input[kCount], sum[kCount];
#pragma GCC unroll 8
    for (int t = 0; t < kCount; ++t) {
      input[t] = x[t];
      sum[t] = T{};
    }
    for (int u = 0; u < kUnits; ++u, ++kernel) {
      const T gradient = dy[u], step = rate * gradient;
#pragma GCC unroll 8
      for (int t = 0; t < kCount; ++t) {
        const T weight = loaded(kernel + t * kUnits);
        sum[t] += weight * gradient;
        Update::move(kernel + t * kUnits, weight, step * input[t], rate);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kCount; ++t) dx[t] = kernels::masked_by<kMask>(sum[t], x + t);
  }
};

}  // namespace tmf::sim::lanes
