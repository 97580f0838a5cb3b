// Update of the bias of one client's convolution.
#pragma once

#include "runs.hpp"

namespace tmf::sim::single {

// Sums the gradients of kPixels pixels of kCount filters, pixel by pixel, and moves each filter's bias.
template <typename Update, int kPixels, int kCount>
void move_bias(const float* dy, float* bias, float rate) {
  in_runs<kCount, 8>([=](auto width, auto runs, int f) {
    constexpr int kWidth = width(), kRuns = runs();
    Run<kWidth> sum[kRuns]{};
    const float* gradient = dy + f;
    for (int n = kPixels; n > 0; --n, gradient += kCount) {
#pragma GCC unroll 8
      for (int t = 0; t < kRuns; ++t) sum[t] += load<kWidth>(gradient + t * kWidth);
    }
    const Run<kWidth> rates = filled<kWidth>(rate);
#pragma GCC unroll 8
    for (int t = 0; t < kRuns; ++t) move_run<Update, kWidth>(bias + f + t * kWidth, rates * sum[t], rates);
  });
}

}  // namespace tmf::sim::single
