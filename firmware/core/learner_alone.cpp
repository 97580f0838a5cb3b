// What a learner does for the board's own program: predict, learn a sample, adapt. A file of its own, so that firmware that only
// federates stays as it is.
#include <cstring>

#include "adaptation.hpp"
#include "device.hpp"
#include "learner.hpp"
#include "own_statistics.hpp"
#include "sample_check.hpp"
#include "source.hpp"
#include "step.hpp"

namespace tmf {

using protocol::State;

namespace {

// 1 for another class than the target; otherwise the share of outputs on the wrong side of 0, or their mean distance to it.
float error_of(const float* outputs, const float* targets) {
  if constexpr (kTargetsAreValues) {
    float distance = 0.0f;
    for (uint32_t i = 0; i < model::kTargetSize; ++i) {
      distance += outputs[i] > targets[i] ? outputs[i] - targets[i] : targets[i] - outputs[i];
    }
    return distance / static_cast<float>(model::kTargetSize);
  }
  volatile int wrong = 0;  // so that no compiler makes it a choice between 0.0f and 1.0f, which clang for Xtensa cannot compile
  if constexpr (model::kClassCount > 0) {
    wrong = best(outputs) != static_cast<int>(targets[0]);
    return static_cast<float>(wrong);
  }
  for (uint32_t i = 0; i < model::kTargetSize; ++i)
    if ((outputs[i] > 0.0f) != (targets[i] > 0.5f)) wrong = wrong + 1;
  return static_cast<float>(wrong) / static_cast<float>(model::kTargetSize);
}

}  // namespace

bool Learner::in_cycle() const {
  if (is_alone_) return false;
  if (state_ == State::kDone) return delta_.count() > 0 && !is_pulled_;
  return state_ == State::kLoading || state_ == State::kLoaded || state_ == State::kTraining;
}

// Ends the host's last cycle: from here on the board's own steps change the weights, so its delta can no longer be pulled.
void Learner::go_alone() {
  if (is_alone_) return;
  keep_for_next_round();
  KeptActivations::leave();
  KeptSamples::leave();
  delta_ = Encoder();
  for (uint32_t i = model::kParameterCount; i < model::kStateCount; ++i) parameters_[i] = 0.0f;  // velocities or gradients
  state_ = State::kIdle;
  is_alone_ = true;
}

void Learner::leave() {
  finish_step();
  SampleParts::drop();
  if (is_whole_) go_alone();
}

// Runs the model forward; the outputs are in the arena.
Status Learner::run_forward(const float* inputs) {
  if (const Status status = check_inputs(inputs); status != Status::kOk) return status;
  std::memcpy(arena_.values + model::kInput, inputs, sizeof(float) * model::kInputSize);
  if constexpr (kAverages) Averaging::run(parameters_, arena_.values);
  else model::Model<float>::forward(parameters_, arena_.values);
  return all_finite(arena_.values + model::kOutput, model::kOutputSize) ? Status::kOk : Status::kNotFinite;
}

Status Learner::predict(const float* inputs, float* outputs) {
  finish_step();
  if (kReadsBytes || !is_whole_ || waits()) return Status::kBadState;
  SampleParts::drop();
  const Status status = run_forward(inputs);
  if (status == Status::kOk) std::memcpy(outputs, arena_.values + model::kOutput, sizeof(float) * model::kOutputSize);
  return status;
}

Status Learner::learn(const float* inputs, const float* targets) {
  finish_step();
  if (kReadsBytes || !is_whole_ || in_cycle() || waits()) return Status::kBadState;
  const bool adapts = state_ == State::kTraining;
  if (adapts ? source::on_device() : !adaptation::kHasSteps) return Status::kBadState;
  if (fault_ == Status::kNotFinite) return Status::kNotFinite;
  if (const Status status = check_targets(targets); status != Status::kOk) return status;
  SampleParts::drop();
  if (const Status status = run_forward(inputs); status != Status::kOk) return status;
  const float error = error_of(arena_.values + model::kOutput, targets);
  std::memcpy(arena_.values + model::kInput, inputs, sizeof(float) * model::kInputSize);  // forward may have written there
  std::memcpy(arena_.values + model::kTarget, targets, sizeof(float) * model::kTargetSize);
  if (!adapts) {
    go_alone();
    recipe_ = &adaptation::kRecipe;
    phase_ = adaptation::kLast;
    phase_end_ = 0;  // a phase without an end
    --step_;         // the steps of the host's cycle stay as many
  }
  if constexpr (augmentation::kAugments) augment(adapts ? step_ : own_statistics.count());
  step();
  finish_step();
  if (!adapts) {
    fault_ = weights_status();
    kept_local_.save(parameters_, key_.client);
    SavedState::note_learned();
  }
  if (fault_ != Status::kOk) return fault_;
  own_statistics.add(error);
  // An adaptation is saved at its end. If the flash does not take it, the next report of the store says so.
  if (adapts ? state_ == State::kDone : SavedState::is_due(own_statistics.count())) static_cast<void>(keep());
  return Status::kOk;
}

Status Learner::keep(const uint8_t* names) {
  finish_step();
  if (!SavedState::kIsStored || !is_whole_ || state_ == State::kTraining) return Status::kBadState;
  if (const Status status = weights_status(); status != Status::kOk) return status;
  return SavedState::save(parameters_, key_, residual_, names);
}

Status Learner::adapt() {
  finish_step();
  if (!is_received_ || in_cycle() || waits()) return Status::kBadState;
  go_alone();
  SampleParts::drop();
  for (uint32_t i = 0; i < model::kGlobalCount; ++i) parameters_[i] = received_[i];
  for (uint32_t i = model::kParameterCount; i < model::kStateCount; ++i) parameters_[i] = 0.0f;
  model::Model<float>::start_local(parameters_);
  redraw_local(parameters_, key_);
  recipe_ = &adaptation::kRecipe;
  fault_ = Status::kOk;
  step_ = 0;
  phase_ = 0;
  phase_end_ = 0;
  state_ = State::kTraining;
  enter_phase();
  return Status::kOk;
}

}  // namespace tmf
