// The empty version of kept activations, for firmware that computes every pass whole. Where activations are kept, a generated
// header of this name replaces it and includes kept/kept_activations.hpp.
#pragma once

#include <cstdint>

#include "protocol.hpp"
#include "step.hpp"
#include "step_in_parts.hpp"

namespace tmf {

// The interface that kept/kept_activations.hpp describes; takes neither memory nor time.
class KeptActivations {
 public:
  void enter(const protocol::Phase&, bool, bool) {}
  void leave() {}
  static constexpr bool holds(uint32_t) { return false; }
  static constexpr bool holds_all() { return false; }
  void train(const protocol::Phase& phase, uint32_t, float* p, float* a) {
    train_step(phase.variant, p, a, phase.learning_rate, phase.output_clamp);
  }
  static uint32_t first_part(uint32_t, float*) { return 0; }
  template <typename T>
  bool train_part(const protocol::Phase& phase, uint32_t, uint32_t part, T* p, T* a) {
    return tmf::train_part(phase.variant, part, p, a, phase.learning_rate, phase.output_clamp);
  }
};

}  // namespace tmf
