// Dense layer of one client: forward and update compute units side by side, the input gradient inputs.
#pragma once

#include "kernels/dense.hpp"
#include "runs.hpp"

namespace tmf::sim::single {

// Of kernels/dense.hpp, with its orders of summation.
template <int kInputs, int kUnits, bool kRelu>
struct Dense {
  static constexpr bool kFits = true;  // needs no memory of its own

  static void forward(const float* x, const float* kernel, const float* bias, float* y) {
    if constexpr (kUnits == 1) {
      *y = kernels::rectified<kRelu>(only_sum(x, kernel, *bias));
      return;
    }
    in_runs<kUnits, 8>([=](auto width, auto runs, int u) __attribute__((always_inline)) {
      constexpr int kWidth = width(), kRuns = runs();
      Run<kWidth> sum[kRuns];
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) sum[t] = load<kWidth>(bias + u + t * kWidth);
      const float* weight = kernel + u;
#pragma GCC unroll 8
      for (int i = 0; i < kInputs; ++i, weight += kUnits) {
        const Run<kWidth> value = filled<kWidth>(x[i]);
#pragma GCC unroll 8
        for (int t = 0; t < kRuns; ++t) sum[t] += value * load<kWidth>(weight + t * kWidth);
      }
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) store(y + u + t * kWidth, kernels::rectified<kRelu>(sum[t]));
    });
  }

  template <typename Update, bool kDx, bool kMask, typename W>
  static void backward(const float* x, const float* dy, float* dx, W* kernel, W* bias, float rate) {
    if constexpr (kDx && Update::kMoves && kInSquares) {
      input_gradient<Update, kMask>(x, dy, dx, Update::template writable<float>(kernel), rate);
      move_bias<Update>(dy, Update::template writable<float>(bias), rate);
      return;
    }
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx) input_gradient<kernels::Hold, kMask>(x, dy, dx, kernel, rate);
    if constexpr (Update::kMoves)
      update<Update>(x, dy, Update::template writable<float>(kernel), Update::template writable<float>(bias), rate);
  }

 private:
  // Of products that are computed side by side. Runs are as wide as those that the layer below stored: a wider load of them would
  // have to wait until they are in the cache.
  static float only_sum(const float* x, const float* kernel, float sum) {
    in_runs<kInputs, 1>([=, &sum](auto width, auto, int i) __attribute__((always_inline)) {
      constexpr int kWidth = width();
      const Run<kWidth> products = load<kWidth>(x + i) * load<kWidth>(kernel + i);
      if constexpr (kWidth == 1) {
        sum += products;
      } else {
#pragma GCC unroll 16
        for (int n = 0; n < kWidth; ++n) sum += products[n];
      }
    });
    return sum;
  }

  // Whether the kernel consists of squares that are turned as a whole. Their weights change when they have been read: a processor
  // turns one square while it stores another.
  static constexpr bool kInSquares = TMF_LANES > 1 && kInputs % TMF_LANES == 0 && kUnits % TMF_LANES == 0;

  template <typename Update, bool kMask, typename W>
  static void input_gradient(const float* x, const float* dy, float* dx, W* kernel, float rate) {
    in_runs<kInputs, 4>([=](auto width, auto runs, int i) __attribute__((always_inline)) {  // as each sum waits for its last addition
      constexpr int kWidth = width(), kRuns = runs();
      Run<kWidth> sum[kRuns]{};
      add_products<Update, kWidth, kRuns>(sum, x + i, dy, kernel + i * kUnits, rate);
#pragma GCC unroll 4
      for (int t = 0; t < kRuns; ++t)
        store(dx + i + t * kWidth, kernels::masked<kMask>(sum[t], load<kWidth>(x + i + t * kWidth)));
    });
  }

  // Adds the products of all units, one after the other, to the sums of kRuns runs of inputs, the weights of which are at `kernel`.
  template <typename Update, int kWidth, int kRuns, typename W>
  [[gnu::always_inline]] static void add_products(Run<kWidth> (&sum)[kRuns], const float* x, const float* dy, W* kernel, float rate) {
    int u = 0;
    if constexpr (kWidth > 1) {
      for (; u + kWidth <= kUnits; u += kWidth) {
#pragma GCC unroll 4
        for (int t = 0; t < kRuns; ++t) {
          W* const place = kernel + t * kWidth * kUnits + u;
          Run<kWidth> weights[kWidth];
#pragma GCC unroll 16
          for (int i = 0; i < kWidth; ++i) weights[i] = load<kWidth>(place + i * kUnits);
          if constexpr (Update::kMoves) {
            const Run<kWidth> rates = filled<kWidth>(rate), step = rates * load<kWidth>(dy + u);
#pragma GCC unroll 16
            for (int i = 0; i < kWidth; ++i)
              move_run<Update, kWidth>(place + i * kUnits, step * filled<kWidth>(x[t * kWidth + i]), rates);
          }
          transpose<kWidth>(weights);
#pragma GCC unroll 16
          for (int i = 0; i < kWidth; ++i) sum[t] += weights[i] * filled<kWidth>(dy[u + i]);
        }
      }
    }
    for (; u < kUnits; ++u) {
#pragma GCC unroll 4
      for (int t = 0; t < kRuns; ++t) sum[t] += gather<kWidth>(kernel + t * kWidth * kUnits + u, kUnits) * filled<kWidth>(dy[u]);
    }
  }

  template <typename Update>
  static void move_bias(const float* dy, float* bias, float rate) {
    in_runs<kUnits, 4>([=](auto width, auto runs, int u) __attribute__((always_inline)) {
      constexpr int kWidth = width(), kRuns = runs();
      const Run<kWidth> rates = filled<kWidth>(rate);
#pragma GCC unroll 4
      for (int t = 0; t < kRuns; ++t)
        move_run<Update, kWidth>(bias + u + t * kWidth, rates * load<kWidth>(dy + u + t * kWidth), rates);
    });
  }

  template <typename Update>
  static void update(const float* x, const float* dy, float* kernel, float* bias, float rate) {
    in_runs<kUnits, 4>([=](auto width, auto runs, int u) __attribute__((always_inline)) {
      constexpr int kWidth = width(), kRuns = runs();
      const Run<kWidth> rates = filled<kWidth>(rate);
      Run<kWidth> step[kRuns];
#pragma GCC unroll 4
      for (int t = 0; t < kRuns; ++t) step[t] = rates * load<kWidth>(dy + u + t * kWidth);
      float* place = kernel + u;
      for (int i = 0; i < kInputs; ++i, place += kUnits) {
        const Run<kWidth> input = filled<kWidth>(x[i]);
#pragma GCC unroll 4
        for (int t = 0; t < kRuns; ++t) move_run<Update, kWidth>(place + t * kWidth, step[t] * input, rates);
      }
#pragma GCC unroll 4
      for (int t = 0; t < kRuns; ++t) move_run<Update, kWidth>(bias + u + t * kWidth, step[t], rates);
    });
  }
};

}  // namespace tmf::sim::single
