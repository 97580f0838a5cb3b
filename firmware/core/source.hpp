// What the learner asks of a sample source; firmware/app/source_NAME.cpp implements it, and the experiment's task picks which,
// or a file of the user's does, which task.source names.
#pragma once

#include <cstdint>

#include "protocol.hpp"

namespace tmf::source {

// Names one sample for good: a source that makes its own gives the same values for the same key, pass after pass.
struct Key {
  uint32_t seed;
  uint32_t client;
  union {
    uint32_t round;
    uint32_t draw;  // its former name, for source files that users have written
  };
  protocol::SampleSet set;
  uint32_t index;
};

// Whether samples are made on the device; otherwise the host streams them.
bool on_device();

// Writes model::kInputSize inputs and model::kTargetSize targets. Only called when on_device().
void make(const Key& key, float* input, float* target);

}  // namespace tmf::source
