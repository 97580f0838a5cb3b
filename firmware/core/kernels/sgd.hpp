// Stochastic gradient descent on one weight: what a kernel's backward does with each gradient as soon as it is known.
#pragma once

#include <cstdint>

#include "math.hpp"

namespace tmf::kernels {

// Parameters that stay as they are.
struct Hold {
  static constexpr bool kMoves = false;
};

// v <- momentum v + (rate gradient + rate weight_decay w); w <- w - v, the velocity v standing kVelocity places behind its
// weight. Without momentum there is no v, without either w <- w - rate gradient. Both are the bits of a float.
template <uint32_t kWeightDecay = 0, uint32_t kMomentum = 0, uint32_t kVelocity = 0>
struct Sgd {
  static constexpr bool kMoves = true;

  // `weight` is *place, which the caller has at hand; `change` is rate gradient.
  template <typename T>
  static void move(T* place, const T& weight, T change, const T& rate) {
    if constexpr (kWeightDecay != 0) change = change + rate * bits_of<float>(kWeightDecay) * weight;
    if constexpr (kMomentum != 0) {
      T& velocity = place[kVelocity];
      change = velocity * bits_of<float>(kMomentum) + change;
      velocity = change;
    }
    *place = weight - change;
  }
};

// s <- s + (rate gradient + rate weight_decay w), the sum s standing kSum places behind its weight w, which stays.
template <uint32_t kWeightDecay, uint32_t kSum>
struct Accumulate {
  static constexpr bool kMoves = true;

  template <typename T>
  static void move(T* place, const T& weight, T change, const T& rate) {
    if constexpr (kWeightDecay != 0) change = change + rate * bits_of<float>(kWeightDecay) * weight;
    place[kSum] += change;
  }
};

}  // namespace tmf::kernels
