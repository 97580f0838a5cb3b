// Keeps one activation and the targets of each sample, so that later passes begin behind the layers that have not changed.
#pragma once

#include <cstdint>
#include <cstring>

#include "protocol.hpp"
#include "source.hpp"
#include "step.hpp"
#include "step_in_parts.hpp"

namespace tmf {

// Trains the steps of a phase. In the first pass it stores the output of the layers that the phase does not change; in later
// passes it restores that output instead of computing it. The bits are those of whole steps, because the same calls compute
// the same numbers. The next phase uses the stored outputs too, if it has the same samples and does not change these layers
// either. LOCAL steps and others have equally many such layers only if all of them are frozen.
class KeptActivations {
 public:
  // Begins a phase. `stays`: the phase before it belongs to the same program. `alone`: the board's own program trains; the
  // samples that it gives are taken as they are.
  void enter(const protocol::Phase& phase, bool stays, bool alone) {
    if (alone && !source::on_device()) return leave();
    const kept::Boundary next = kept::boundary(phase.variant);
    if (!stays || next.layers != boundary_.layers || phase.sample_set != sample_set_ || phase.count != count_) held_ = 0;
    boundary_ = next;
    sample_set_ = phase.sample_set;
    count_ = phase.count;
  }

  // From now on samples belong to no set: steps are whole and store nothing.
  void leave() {
    boundary_ = {};
    held_ = 0;
    count_ = 0;
  }

  // Whether sample `index` of the phase can be trained without its inputs and targets.
  bool holds(uint32_t index) const { return index < held_; }

  // Whether that is so for every sample of the phase, so that the host need not send them again.
  bool holds_all() const { return held_ > 0 && held_ == count_; }

  // Trains sample `index` of the phase: the one in arena `a`, or the one kept.
  void train(const protocol::Phase& phase, uint32_t index, float* p, float* a) {
    if (boundary_.layers == 0) {
      train_step(phase.variant, p, a, phase.learning_rate, phase.output_clamp);
      return;
    }
    if (holds(index)) {
      put_back(index, a);
    } else {
      kept::begin_step(phase.variant, p, a);
      keep(index, a);
    }
    kept::finish_step(phase.variant, p, a, phase.learning_rate, phase.output_clamp);
  }

  // The same in parts: the first part of the step of sample `index`, and one part of it. Returns whether there is another part.
  uint32_t first_part(uint32_t index, float* a) const {
    if (boundary_.layers == 0 || !holds(index)) return 0;
    put_back(index, a);
    return boundary_.layers;
  }
  template <typename T>
  bool train_part(const protocol::Phase& phase, uint32_t index, uint32_t part, T* p, T* a) {
    const bool continues = tmf::train_part(phase.variant, part, p, a, phase.learning_rate, phase.output_clamp);
    if (boundary_.layers != 0 && part + 1 == boundary_.layers) keep(index, a);
    return continues;
  }

 private:
  // Keeps what is in the arena, if there is room: the first samples of a set in their order.
  void keep(uint32_t index, const float* a) {
    if (index != held_ || held_ == kept::kSamples) return;
    std::memcpy(values_[held_], a + boundary_.place, sizeof(float) * boundary_.floats);
    std::memcpy(targets_[held_], a + model::kTarget, sizeof targets_[held_]);
    ++held_;
  }

  void put_back(uint32_t index, float* a) const {
    std::memcpy(a + boundary_.place, values_[index], sizeof(float) * boundary_.floats);
    std::memcpy(a + model::kTarget, targets_[index], sizeof targets_[index]);
  }

  kept::Boundary boundary_;
  protocol::SampleSet sample_set_ = protocol::SampleSet::kSupport;
  // All of it begins as zeros: a single other value would put the whole learner into flash.
  uint32_t count_ = 0;  // samples of the phase
  uint32_t held_ = 0;  // samples whose activation is kept
  float values_[kept::kSamples][kept::kFloats] = {};
  float targets_[kept::kSamples][model::kTargetSize] = {};
};

}  // namespace tmf
