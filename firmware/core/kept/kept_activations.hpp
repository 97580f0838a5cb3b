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
// either. LOCAL steps and others have equally many such layers only if all of them are frozen. The output of frozen layers may
// have a place of its own: then any phase with the same samples uses it, and these layers run once per sample.
class KeptActivations {
 public:
  // Begins a phase. `stays`: the phase before it belongs to the same program. `alone`: the board's own program trains; the
  // samples that it gives are taken as they are.
  void enter(const protocol::Phase& phase, bool stays, bool alone) {
    if (alone && !source::on_device()) return leave();
    const kept::Boundary next = kept::boundary(phase.variant);
    const bool same_samples = stays && phase.sample_set == sample_set_ && phase.count == count_;
    if (!same_samples || next.layers != boundary_.layers) held_ = 0;
    if (kBoth && (!same_samples || next.layers == 0)) frozen_held_ = 0;
    boundary_ = next;
    sample_set_ = phase.sample_set;
    count_ = phase.count;
  }

  // From now on samples belong to no set: steps are whole and store nothing.
  void leave() {
    boundary_ = {};
    held_ = 0;
    if (kBoth) frozen_held_ = 0;
    count_ = 0;
  }

  // Whether sample `index` of the phase can be trained without its inputs and targets.
  bool holds(uint32_t index) const { return index < held_ || holds_frozen(index); }

  // Whether that is so for every sample of the phase, so that the host need not send them again.
  bool holds_all() const { return count_ > 0 && holds(count_ - 1); }

  // Trains sample `index` of the phase: the one in arena `a`, or the one kept.
  void train(const protocol::Phase& phase, uint32_t index, float* p, float* a) {
    if (boundary_.layers == 0) {
      train_step(phase.variant, p, a, phase.learning_rate, phase.output_clamp);
      return;
    }
    if (index < held_) {
      put_back(index, a);
    } else if (!kBoth) {
      kept::begin_step(phase.variant, p, a);
      keep(phase.variant, index, a);
    } else {
      if (holds_frozen(index)) {
        put_back_frozen(index, a);
      } else {
        kept::begin_frozen(p, a);
        keep_frozen(phase.variant, index, a);
      }
      if (leaves_out_more()) {
        kept::follow_frozen(phase.variant, p, a);
        keep(phase.variant, index, a);
      }
    }
    kept::finish_step(phase.variant, p, a, phase.learning_rate, phase.output_clamp);
  }

  // The same in parts: the first part of the step of sample `index`, and one part of it. Returns whether there is another part.
  uint32_t first_part(uint32_t index, float* a) const {
    if (boundary_.layers == 0 || !holds(index)) return 0;
    if (index < held_) {
      put_back(index, a);
      return boundary_.layers;
    }
    put_back_frozen(index, a);
    return kept::kFrozen.layers;
  }
  template <typename T>
  bool train_part(const protocol::Phase& phase, uint32_t index, uint32_t part, T* p, T* a) {
    const bool continues = tmf::train_part(phase.variant, part, p, a, phase.learning_rate, phase.output_clamp);
    if (boundary_.layers == 0) return continues;
    if (kBoth && part + 1 == kept::kFrozen.layers) keep_frozen(phase.variant, index, a);
    if (leaves_out_more() && part + 1 == boundary_.layers) keep(phase.variant, index, a);
    return continues;
  }

 private:
  static constexpr bool kBoth = kept::kFrozen.layers > 0;  // whether frozen layers have a place of their own

  bool leaves_out_more() const { return !kBoth || boundary_.layers != kept::kFrozen.layers; }
  bool holds_frozen(uint32_t index) const { return kBoth && index < frozen_held_; }

  // Keeps what is in the arena, if there is room: the first samples of a set in their order.
  void keep(protocol::Variant variant, uint32_t index, const float* a) {
    if (index != held_ || held_ == kept::room(variant)) return;
    std::memcpy(row(index) + kept::kFrozen.floats, a + boundary_.place, sizeof(float) * boundary_.floats);
    std::memcpy(targets(index), a + model::kTarget, kTargetBytes);
    ++held_;
  }
  void keep_frozen(protocol::Variant variant, uint32_t index, const float* a) {
    if (index != frozen_held_ || frozen_held_ == kept::room(variant)) return;
    std::memcpy(row(index), a + kept::kFrozen.place, sizeof(float) * kept::kFrozen.floats);
    std::memcpy(targets(index), a + model::kTarget, kTargetBytes);
    ++frozen_held_;
  }

  void put_back(uint32_t index, float* a) const {
    std::memcpy(a + boundary_.place, row(index) + kept::kFrozen.floats, sizeof(float) * boundary_.floats);
    std::memcpy(a + model::kTarget, targets(index), kTargetBytes);
  }
  void put_back_frozen(uint32_t index, float* a) const {
    std::memcpy(a + kept::kFrozen.place, row(index), sizeof(float) * kept::kFrozen.floats);
    std::memcpy(a + model::kTarget, targets(index), kTargetBytes);
  }

  // A sample's floats: after the frozen layers, if they have a place, after all that the phase leaves out, and its targets.
  uint32_t stride() const { return (kBoth ? kept::kMostFloats : boundary_.floats) + model::kTargetSize; }
  float* row(uint32_t index) { return values_ + index * stride(); }
  const float* row(uint32_t index) const { return values_ + index * stride(); }
  float* targets(uint32_t index) { return row(index + 1) - model::kTargetSize; }
  const float* targets(uint32_t index) const { return row(index + 1) - model::kTargetSize; }
  static constexpr size_t kTargetBytes = sizeof(float) * model::kTargetSize;

  kept::Boundary boundary_;
  protocol::SampleSet sample_set_ = protocol::SampleSet::kSupport;
  // All of it begins as zeros: a single other value would put the whole learner into flash.
  uint32_t count_ = 0;  // samples of the phase
  uint32_t held_ = 0;  // samples whose activation is kept
  uint32_t frozen_held_ = 0;  // the same after the frozen layers alone
  float values_[kept::kFloats] = {};
};

}  // namespace tmf
