// Normalisation over [pixels, channels] by running statistics: y = (x - mean) / standard deviation, with count, means and variances
// that the training steps take from their own samples.
#pragma once

#include <cstdint>

#include "elementary.hpp"

namespace tmf::kernels {

// All samples count alike, up to kLargestCount of them; from then on each counts 1 / kLargestCount, and the older ones less. The
// count is a float, because it is one of the local weights. kLeastVariance and kLargestOutput are bit patterns of floats.
template <int kPixels, int kChannels, int kLargestCount, uint32_t kLeastVariance, uint32_t kLargestOutput>
struct RunningStatistics {
  // Takes a sample into the statistics. Each channel: mean and variance of the sample's own pixels, in ascending order, then those of
  // all samples. Differences to the channel's first pixel are added, so that a constant channel has the variance 0 exactly.
  template <typename T>
  static void observe(const T* x, T* count, T* mean, T* variance) {
    const T one = T{} + 1.0f;
    const T largest = T{} + static_cast<float>(kLargestCount);
    const T n = count[0] < largest ? T(count[0] + one) : largest;
    const T share = one / n;
    const T kept = one - share;
    count[0] = n;
    for (int c = 0; c < kChannels; ++c) {
      const T first = x[c];
      T own_mean = first;
      T own_variance = T{};
      if constexpr (kPixels > 1) {
        T sum = T{};
        for (int i = c + kChannels; i < kPixels * kChannels; i += kChannels) sum += x[i] - first;
        own_mean = first + sum * kPixelShare;
        for (int i = c; i < kPixels * kChannels; i += kChannels) {
          const T distance = x[i] - own_mean;
          own_variance += distance * (distance * kPixelShare);
        }
      }
      const T distance = own_mean - mean[c];
      mean[c] += distance * share;
      const T between = distance * (distance * share);
      variance[c] = kept * (variance[c] + between) + share * own_variance;
    }
  }

  // A channel whose variance is 0, or not above kLeastVariance, has the factor 1. y is cut to the largest output on both
  // sides; it may be stored in place of x.
  template <typename T>
  static void forward(const T* x, const T* /*count*/, const T* mean, const T* variance, T* y) {
    const T one = T{} + 1.0f;
    const T least = T{} + bits_of<float>(kLeastVariance);
    const T most = T{} + bits_of<float>(kLargestOutput);
    for (int c = 0; c < kChannels; ++c) {
      const T squared = variance[c];
      const T factor = squared > least ? T(one / Elementary<T>::sqrt(squared)) : one;
      const T middle = mean[c];
      for (int i = c; i < kPixels * kChannels; i += kChannels) {
        const T scaled = (x[i] - middle) * factor;
        const T below = scaled > most ? most : scaled;
        y[i] = below < -most ? T(-most) : below;
      }
    }
  }

 private:
  static constexpr float kPixelShare = 1.0f / static_cast<float>(kPixels);
};

}  // namespace tmf::kernels
