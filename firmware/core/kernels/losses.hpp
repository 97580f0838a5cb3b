// Losses: the gradient at the network's output, clamped if asked. A device does not need the value of the loss.
#pragma once

#include <cstdint>

#include "elementary.hpp"

namespace tmf::kernels {

// d limited to [-limit, limit]; a limit of 0 means no limit.
template <typename T>
T clamp(const T& d, const T& limit) {
  const T bound = limit > T{} ? limit : T{} + bits_of<float>(0x7F800000u);  // infinity
  const T below = d > bound ? bound : d;
  return below < -bound ? -bound : below;
}

// Mean of the squared errors over the outputs.
template <int kOutputs>
struct Mse {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    for (int i = 0; i < kOutputs; ++i) dy[i] = clamp(2.0f * (y[i] - target[i]) / static_cast<float>(kOutputs), limit);
  }
};

// Mean of the absolute errors over the outputs; the gradient is 0 where the error is 0.
template <int kOutputs>
struct Mae {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    const T share = (T{} + 1.0f) / static_cast<float>(kOutputs);
    for (int i = 0; i < kOutputs; ++i) {
      const T below = y[i] < target[i] ? -share : T{};
      dy[i] = clamp(y[i] > target[i] ? share : below, limit);
    }
  }
};

// Huber loss, the mean over the outputs: half the squared error, linear where the error exceeds delta. kDelta is the bit
// pattern of the float delta.
template <int kOutputs, uint32_t kDelta>
struct Huber {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    const T delta = T{} + bits_of<float>(kDelta);
    for (int i = 0; i < kOutputs; ++i)
      dy[i] = clamp(clamp(T(y[i] - target[i]), delta) / static_cast<float>(kOutputs), limit);
  }
};

// Binary cross-entropy, the mean over the outputs: -log sigmoid(y) for target 1, -log (1 - sigmoid(y)) for target 0.
template <int kOutputs>
struct BinaryCrossEntropy {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    for (int i = 0; i < kOutputs; ++i)
      dy[i] = clamp((logistic(y[i]) - target[i]) / static_cast<float>(kOutputs), limit);
  }
};

// Softmax cross-entropy: -log softmax(y)[target[0]], where target[0] is a class index below kOutputs. The sum adds outputs in
// ascending order to 0.
template <int kOutputs>
struct SoftmaxCrossEntropy {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    T largest = y[0];
    for (int i = 1; i < kOutputs; ++i) largest = y[i] > largest ? y[i] : largest;
    T sum = T{};
    for (int i = 0; i < kOutputs; ++i) {
      dy[i] = Elementary<T>::exp(y[i] - largest);
      sum += dy[i];
    }
    for (int i = 0; i < kOutputs; ++i) {
      const T probability = dy[i] / sum;
      dy[i] = clamp(target[0] == T{} + static_cast<float>(i) ? probability - (T{} + 1.0f) : probability, limit);
    }
  }
};

}  // namespace tmf::kernels
