// Keeps the samples that the host has sent, as they came, so that the host sends each of them once.
#pragma once

#include <cstdint>
#include <cstring>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// Holds the samples of one set of a program, in their order, from the first pass over it on. Later passes, and the next phase
// over as many samples of the same set, put them back into the arena. A set for which there is no room is not kept at all, because
// the host would send it anyway.
class KeptSamples {
 public:
  static constexpr uint32_t kMost = kept_samples::kSamples;  // of a set
  static constexpr protocol::Dtype kDtype = kept_samples::kDtype;

  // Begins a phase. `stays`: the phase before it belongs to the same program. `alone`: the board's own program trains, with samples
  // that the host does not send.
  void enter(const protocol::Phase& phase, bool stays, bool alone) {
    if (alone || phase.count > kMost) return leave();
    if (!stays || phase.sample_set != sample_set_ || phase.count != count_) held_ = 0;
    sample_set_ = phase.sample_set;
    count_ = phase.count;
  }

  // From now on samples belong to no set: none is kept.
  void leave() {
    held_ = 0;
    count_ = 0;
  }

  // Whether sample `index` of the phase is kept.
  bool holds(uint32_t index) const { return index < held_; }

  // Whether that is so for every sample of the phase, so that the host need not send them again.
  bool holds_all() const { return held_ > 0 && held_ == count_; }

  // Keeps sample `index` of the phase, a valid one. All samples of a set have the same scale; one of another is not kept.
  void keep(uint32_t index, const protocol::Sample& message) {
    if (index != held_ || held_ >= count_ || message.dtype != kDtype) return;
    if (held_ > 0 && std::memcmp(&message.scale, &scale_, sizeof scale_) != 0) return;
    std::memcpy(values_[held_++], message.data, sizeof values_[0]);
    scale_ = message.scale;
  }

  // The targets and inputs of a sample that is kept, as they came in kDtype with `scale()`.
  Reader kept(uint32_t index) const { return {values_[index], sizeof values_[index]}; }
  float scale() const { return scale_; }

 private:
  protocol::SampleSet sample_set_ = protocol::SampleSet::kSupport;
  // All of it begins as zeros: a single other value would put the whole learner into flash.
  float scale_ = 0.0f;
  uint32_t count_ = 0;  // samples of the phase; 0 where none is kept
  uint32_t held_ = 0;
  uint8_t values_[kMost][kept_samples::kBytes] = {};
};

}  // namespace tmf
