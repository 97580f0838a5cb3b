// Start, steps and end of a training program, shared by the device's learner and the simulation.
#pragma once

#include <cstdint>

#include "local_start.hpp"
#include "model.hpp"
#include "protocol.hpp"

namespace tmf {

// Whether the firmware can train this variant: only models that sum gradients have GRADIENT steps.
constexpr bool has_variant(protocol::Variant variant) {
  return model::kSumsGradients || variant != protocol::Variant::kGradient;
}

// Before the first step: sets the local weights to random values of this client and round, if the model asks for them.
template <typename T>
void redraw_local(T* p, const Key& key) {
  if constexpr (model::kRedrawsLocal) {
    model::Model<T>::redraw_local(p, key);
  } else {
    static_cast<void>(p), static_cast<void>(key);
  }
}

// One training step: trains weights `p` on the sample in arena `a`. T is float, or a vector with a client per lane.
template <typename T>
void train_step(protocol::Variant variant, T* p, T* a, T rate, T clamp) {
  using Model = model::Model<T>;
  switch (variant) {
    case protocol::Variant::kLocal: Model::step_local(p, a, rate, clamp); break;
    case protocol::Variant::kGlobal: Model::step_global(p, a, rate, clamp); break;
    case protocol::Variant::kFull: Model::step_full(p, a, rate, clamp); break;
    case protocol::Variant::kGradient:
      if constexpr (model::kSumsGradients) Model::step_gradient(p, a, rate, clamp);
      break;
  }
}

// After the last of `count` phases: one SGD step along the mean of the gradients that their GRADIENT steps have summed up.
template <typename T, typename Phase>
void apply_mean_gradient(T* p, const Phase* phases, uint32_t count) {
  if constexpr (model::kSumsGradients) {
    uint32_t gradients = 0;
    for (uint32_t i = 0; i < count && phases[i].passes > 0; ++i)
      if (phases[i].variant == protocol::Variant::kGradient)
        gradients += static_cast<uint32_t>(phases[i].count) * phases[i].passes;
    if (gradients == 0) return;
    const T number = static_cast<float>(gradients) - T{};
    for (uint32_t i = 0; i < model::kParameterCount; ++i) p[i] = p[i] - p[model::kParameterCount + i] / number;
  }
}

}  // namespace tmf
