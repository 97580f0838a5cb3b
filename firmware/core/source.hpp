// The interface of a sample source. firmware/app/source_NAME.cpp implements it, or the user's own file that the experiment
// gives as task.source. The experiment's task decides which source is compiled.
#pragma once

#include <cstdint>

#include "protocol.hpp"

namespace tmf::source {

// Identifies one sample. A source on the device must make the same values for the same key, in every pass.
struct Key {
  uint32_t seed;
  uint32_t client;
  union {
    uint32_t round;
    uint32_t draw;  // former name of `round`; existing source files of users have it
  };
  protocol::SampleSet set;
  uint32_t index;
};

// Whether the device makes the samples; otherwise the host sends them, one per message.
bool on_device();

// Writes model::kInputSize inputs and model::kTargetSize targets. Called only if on_device() is true.
void make(const Key& key, float* input, float* target);

}  // namespace tmf::source
