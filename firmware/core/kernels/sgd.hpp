// Stochastic gradient descent on one weight. A kernel's backward pass calls it for each gradient immediately.
#pragma once

#include <kernels/adjacent.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include <cstdint>

#include "math.hpp"

namespace tmf::kernels {

// For weights that this step leaves as they are, frozen ones among them, which are constants: no update.
struct Hold {
  static constexpr bool kMoves = false, kSubtracts = false;

  // What an update writes to: nothing, so that weights may be constants. Other updates write to the weights themselves.
  template <typename T, typename W>
  static T* writable(W*) { return nullptr; }

  template <typename W, typename T>
  static void move(W*, const T&, const T&, const T&) {}
};

// v <- momentum v + (rate gradient + rate weight_decay w); w <- w - v. The velocity v is stored kVelocity values after its
// weight w. Without momentum there is no v; without both, w <- w - rate gradient. kWeightDecay and kMomentum are the bit
// patterns of floats.
template <uint32_t kWeightDecay = 0, uint32_t kMomentum = 0, uint32_t kVelocity = 0>
struct Sgd {
  static constexpr bool kMoves = true;
  static constexpr bool kSubtracts = kWeightDecay == 0 && kMomentum == 0;  // w <- w - rate gradient, and nothing else

  template <typename T>
  static T* writable(T* weights) { return weights; }

  // `weight` is *place, which the caller has loaded already; `change` is rate gradient.
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

// Sums gradients: s <- s + (rate gradient + rate weight_decay w). The sum s is stored kSum values after its weight w, which
// does not change.
template <uint32_t kWeightDecay, uint32_t kSum>
struct Accumulate {
  static constexpr bool kMoves = true, kSubtracts = false;

  template <typename T>
  static T* writable(T* weights) { return weights; }

  template <typename T>
  static void move(T* place, const T& weight, T change, const T& rate) {
    if constexpr (kWeightDecay != 0) change = change + rate * bits_of<float>(kWeightDecay) * weight;
    place[kSum] += change;
  }
};

// Changes kCount weights that lie side by side.
template <typename Update, int kCount, typename T>
[[gnu::always_inline]] inline void move_adjacent(T* place, const T* gradients, const T& rate) {
  if constexpr (Update::kSubtracts) {
    subtract_products<kCount>(place, gradients, rate);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) Update::move(place + i, place[i], rate * gradients[i], rate);
  }
}

}  // namespace tmf::kernels
