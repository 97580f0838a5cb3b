// Dense layer: forward, and backward fused with the SGD update; kernel is [inputs, units], bias [units].
#pragma once

#include <kernels/adjacent.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "pixel_groups.hpp"
#include "relu.hpp"
#include "sgd.hpp"

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
    // With runs, the update alone takes rows of weights instead of tiles of inputs, if they are not short.
    constexpr bool kRuns = run_of<T>(4) > 1, kTiles = kDx || !kRuns || kUnits < 4;
    if constexpr (kTiles) {
      // Of vectors, rows of weights are often a power of two apart: a load waits for a store whose lowest 12 address bits are its own.
      constexpr bool kFew = Update::kMoves && (kRuns || sizeof(T) > sizeof(float));
      constexpr int kTile = kFew && kInputTile > 4 ? 4 : kInputTile;
      int i = 0;
      for (; i + kTile <= kInputs; i += kTile)
        backward_tile<kTile, Update, kDx, kMask>(x + i, dy, dx + i, kernel + i * kUnits, rate);
      if constexpr (kInputs % kTile != 0)
        backward_tile<kInputs % kTile, Update, kDx, kMask>(x + i, dy, dx + i, kernel + i * kUnits, rate);
    }
    if constexpr (Update::kMoves) {
      T* const weights = Update::template writable<T>(kernel);
      T* const biases = Update::template writable<T>(bias);
      int u = 0;
      for (; u + kUnitTile <= kUnits; u += kUnitTile)
        update_tile<kUnitTile, Update, kTiles>(x, dy + u, weights + u, biases + u, rate);
      if constexpr (kUnits % kUnitTile != 0)
        update_tile<kUnits % kUnitTile, Update, kTiles>(x, dy + u, weights + u, biases + u, rate);
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
      const T input = x[i];
      add_products<1, kTile>(sum, kernel, &input);
      kernel += kUnits;
    }
    store_rectified<kRelu, kTile>(y, sum);
  }

  // Visits each weight once: adds its contribution to dx with the old value, then updates it.
  template <int kTile, typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward_tile(const T* x, const T* dy, T* dx, W* kernel, T rate) {
    constexpr int kRun = kUnits < run_of<T>(4) ? kUnits : run_of<T>(4);
    T input[kTile];
    T sum[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) {
      input[t] = x[t];
      sum[t] = T{};
    }
    int u = 0;
    for (; u + kRun <= kUnits; u += kRun) backward_run<kRun, kTile, Update, kDx>(input, dy + u, kernel + u, sum, rate);
    if constexpr (kUnits % kRun != 0)
      backward_run<kUnits % kRun, kTile, Update, kDx>(input, dy + u, kernel + u, sum, rate);
    if constexpr (kDx) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) dx[t] = masked_by<kMask>(sum[t], x + t);
    }
  }

  // The weights between a tile of inputs and kRun units.
  template <int kRun, int kTile, typename Update, bool kDx, typename T, typename W>
  [[gnu::always_inline]] static void backward_run(const T* input, const T* dy, W* kernel, T* sum, const T& rate) {
    T gradient[kRun];
#pragma GCC unroll 4
    for (int r = 0; r < kRun; ++r) gradient[r] = dy[r];
    if constexpr (Update::kMoves) {
      T step[kRun];
#pragma GCC unroll 4
      for (int r = 0; r < kRun; ++r) step[r] = rate * gradient[r];
      T* place = Update::template writable<T>(kernel);
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t, place += kUnits) {
        if constexpr (kDx && Update::kSubtracts) {
          add_dot_subtract_products<kRun>(sum[t], place, gradient, step, input[t]);
        } else {
#pragma GCC unroll 4
          for (int r = 0; r < kRun; ++r) {
            const T weight = place[r];
            if constexpr (kDx) sum[t] += weight * gradient[r];
            Update::move(place + r, weight, step[r] * input[t], rate);
          }
        }
      }
    } else {
      add_dots<1, kTile, kRun>(sum, kernel, kUnits, gradient);
    }
  }

  // Updates the biases of a tile of units, and their weights if those have not moved yet.
  template <int kTile, typename Update, bool kBiasOnly, typename T>
  static void update_tile(const T* x, const T* dy, T* kernel, T* bias, T rate) {
    move_adjacent<Update, kTile>(bias, dy, rate);
    if constexpr (!kBiasOnly) {
      T step[kTile];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) step[t] = rate * dy[t];
#pragma GCC unroll 2
      for (int i = 0; i < kInputs; ++i, kernel += kUnits) {
        const T input = x[i];
        if constexpr (Update::kSubtracts) {
          subtract_products<kTile>(kernel, step, input);
        } else {
#pragma GCC unroll 8
          for (int t = 0; t < kTile; ++t) Update::move(kernel + t, kernel[t], step[t] * input, rate);
        }
      }
    }
  }
};

}  // namespace tmf::kernels
