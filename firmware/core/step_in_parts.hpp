// A training step in parts, layer by layer, for firmware whose sketch limits how long one poll takes (board.split_steps).
#pragma once

#include <cstdint>

#include "device_facts.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "step.hpp"

namespace tmf {

// Trains part `part` of a step: the same calls as `train_step`, in the same order. Returns whether there is another part.
template <typename T>
bool train_part(protocol::Variant variant, uint32_t part, T* p, T* a, T rate, T clamp) {
  using Model = model::Model<T>;
  switch (variant) {
    case protocol::Variant::kLocal: return Model::part_local(part, p, a, rate, clamp);
    case protocol::Variant::kGlobal: return Model::part_global(part, p, a, rate, clamp);
    case protocol::Variant::kFull: return Model::part_full(part, p, a, rate, clamp);
    case protocol::Variant::kGradient:
      if constexpr (model::kSumsGradients) return Model::part_gradient(part, p, a, rate, clamp);
  }
  return false;
}

// Where a step is; takes no memory where steps are not split, if it is a base.
template <bool kSplits>
struct StepPosition {
  static constexpr bool in_step() { return false; }

 protected:
  static uint32_t next_part_;  // both are never used, and never defined
  static bool in_step_;
};

template <>
struct StepPosition<true> {
  bool in_step() const { return in_step_; }

 protected:
  uint32_t next_part_ = 0;
  bool in_step_ = false;
};

}  // namespace tmf
