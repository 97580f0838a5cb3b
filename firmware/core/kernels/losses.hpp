// Losses: the derivative at the network's output, clamped where asked; a device never needs the loss itself.
#pragma once

#include "math.hpp"

namespace tmf::kernels {

// The project's own exp, so that softmax gives the same bits everywhere; tests add one for double.
template <typename T>
struct Exponential;

template <>
struct Exponential<float> {
  static float of(float x) { return tmf::exp(x); }
};

// Keeps |d| <= limit; a limit of 0 means none.
template <typename T>
T clamp(T d, T limit) {
  if (limit > T(0)) {
    if (d > limit) return limit;
    if (d < -limit) return -limit;
  }
  return d;
}

// Mean of squared errors over the outputs.
template <int kOutputs>
struct Mse {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    for (int i = 0; i < kOutputs; ++i) dy[i] = clamp(T(2) * (y[i] - target[i]) / T(kOutputs), limit);
  }
};

// -log softmax(y)[target[0]], target[0] being a class index below kOutputs.
template <int kOutputs>
struct SoftmaxCrossEntropy {
  template <typename T>
  static void gradient(const T* y, const T* target, T limit, T* dy) {
    T largest = y[0];
    for (int i = 1; i < kOutputs; ++i)
      if (y[i] > largest) largest = y[i];
    T sum = T(0);
    for (int i = 0; i < kOutputs; ++i) {
      dy[i] = Exponential<T>::of(y[i] - largest);
      sum += dy[i];
    }
    const int wanted = static_cast<int>(target[0]);
    for (int i = 0; i < kOutputs; ++i) {
      const T probability = dy[i] / sum;
      dy[i] = clamp(i == wanted ? probability - T(1) : probability, limit);
    }
  }
};

}  // namespace tmf::kernels
