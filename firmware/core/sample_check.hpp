// Checks of a sample that a device is to learn, whoever brings it.
#pragma once

#include <cstdint>

#include "math.hpp"
#include "model.hpp"
#include "protocol.hpp"

namespace tmf {

inline bool all_finite(const float* values, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i)
    if (!is_finite(values[i])) return false;
  return true;
}

// kNotFinite for an input that is NaN or infinite; kBadValue for one that statistics of inputs cannot hold.
inline Status check_inputs(const float* inputs) {
  if (!all_finite(inputs, model::kInputSize)) return Status::kNotFinite;
  if constexpr (model::kLargestInput > 0) {
    for (uint32_t i = 0; i < model::kInputSize; ++i)
      if (inputs[i] > model::kLargestInput || inputs[i] < -model::kLargestInput) return Status::kBadValue;
  }
  return Status::kOk;
}

// kNotFinite for a target that is NaN or infinite, kBadValue for a class that there is not.
inline Status check_targets(const float* targets) {
  for (uint32_t i = 0; i < model::kTargetSize; ++i)
    if (!is_finite(targets[i])) return Status::kNotFinite;
  if constexpr (model::kClassCount > 0) {
    if (!(targets[0] >= 0.0f && targets[0] < static_cast<float>(model::kClassCount))) return Status::kBadValue;
    if (static_cast<float>(static_cast<uint32_t>(targets[0])) != targets[0]) return Status::kBadValue;  // not an integer
  }
  return Status::kOk;
}

}  // namespace tmf
