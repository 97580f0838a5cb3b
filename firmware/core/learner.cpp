// The round's state machine; every check on a message stands here, before it touches a weight.
#include "learner.hpp"

#include "math.hpp"
#include "port.hpp"
#include "source.hpp"
#include "step.hpp"

namespace tmf {

using protocol::Dtype;
using protocol::Selection;
using protocol::State;

namespace {

// Bytes of one number, 0 where this type cannot carry inputs.
size_t input_width(uint8_t dtype) {
  switch (static_cast<Dtype>(dtype)) {
    case Dtype::kF32: return 4;
    case Dtype::kU8: return 1;
    default: return 0;
  }
}

Status read_inputs(Reader& in, uint8_t dtype, float scale, float* inputs) {
  for (uint32_t i = 0; i < model::kInputSize; ++i) {
    inputs[i] = static_cast<Dtype>(dtype) == Dtype::kU8 ? static_cast<float>(in.u8()) * scale : in.f32();
    if (!is_finite(inputs[i])) return Status::kNotFinite;
  }
  return in.ok() ? Status::kOk : Status::kBadLength;
}

Status read_targets(Reader& in, float* targets) {
  for (uint32_t i = 0; i < model::kTargetSize; ++i) {
    targets[i] = in.f32();
    if (!is_finite(targets[i])) return Status::kNotFinite;
  }
  if constexpr (model::kClassCount > 0) {
    if (!(targets[0] >= 0.0f && targets[0] < static_cast<float>(model::kClassCount))) return Status::kBadValue;
    if (static_cast<float>(static_cast<uint32_t>(targets[0])) != targets[0]) return Status::kBadValue;  // half a class
  }
  return in.ok() ? Status::kOk : Status::kBadLength;
}

Status check(const protocol::Phase& phase) {
  if (!has_variant(phase.variant)) return Status::kBadValue;
  if (phase.sample_set > static_cast<uint8_t>(protocol::SampleSet::kTest)) return Status::kBadValue;
  if (phase.count == 0) return Status::kBadValue;
  if (!is_finite(phase.learning_rate) || !is_finite(phase.output_clamp)) return Status::kNotFinite;
  if (phase.learning_rate <= 0.0f || phase.output_clamp < 0.0f) return Status::kBadValue;
  return Status::kOk;
}

bool equal(const protocol::Phase& a, const protocol::Phase& b) {
  return a.variant == b.variant && a.sample_set == b.sample_set && a.count == b.count && a.passes == b.passes &&
         a.learning_rate == b.learning_rate && a.output_clamp == b.output_clamp;
}

}  // namespace

Status Learner::configure(const protocol::Configure& message) {
  if (message.program > static_cast<uint8_t>(protocol::Program::kAdapt)) return Status::kBadValue;
  if (message.top_k > model::kGlobalCount || message.uplink > static_cast<uint8_t>(Dtype::kI8)) return Status::kBadValue;
  if (message.selection > static_cast<uint8_t>(Selection::kRandom)) return Status::kBadValue;
  const Selection selection = static_cast<Selection>(message.selection);
  if (selection == Selection::kLayer && message.top_k > 0 && message.top_k < kLayers) return Status::kBadValue;
  uint64_t steps = 0;
  for (const protocol::Phase& phase : message.phases) {
    if (phase.passes == 0) break;
    if (const Status status = check(phase); status != Status::kOk) return status;
    steps += static_cast<uint64_t>(phase.count) * phase.passes;
  }
  if (steps >= UINT32_MAX) return Status::kBadValue;

  if (!has_session_ || message.session != session_) {
    session_ = message.session;
    has_session_ = true;
    has_round_ = false;
    state_ = State::kIdle;
    loaded_ = 0;
    kept_local_.forget();
    residual_.forget();
    for (Recipe& recipe : recipes_) recipe.ready = false;
  }
  Recipe& recipe = recipes_[message.program];
  bool unchanged = recipe.ready && recipe.top_k == message.top_k && recipe.uplink == message.uplink &&
                   recipe.selection == selection;
  for (uint32_t i = 0; i < protocol::kMaxPhases; ++i)
    unchanged = unchanged && equal(recipe.phases[i], message.phases[i]);
  if (unchanged) return Status::kOk;
  if (state_ == State::kTraining) return Status::kBadState;  // a recipe never changes under a running program
  for (uint32_t i = 0; i < protocol::kMaxPhases; ++i) recipe.phases[i] = message.phases[i];
  recipe.top_k = message.top_k;
  recipe.uplink = message.uplink;
  recipe.selection = selection;
  recipe.ready = true;
  return Status::kOk;
}

Status Learner::load(const protocol::Load& message) {
  if (!has_session_) return Status::kBadState;
  if (message.dtype != static_cast<uint8_t>(model::kDownlink) || !is_finite(message.scale)) return Status::kBadValue;
  const size_t count = message.data_size / Downlink::kWidth;
  if (count == 0 || message.data_size % Downlink::kWidth != 0) return Status::kBadLength;
  if (message.offset >= model::kGlobalCount || count > model::kGlobalCount - message.offset)
    return refuse(Status::kBadOffset, loaded_);
  // A late copy of an earlier round's message must not throw away the round in progress.
  if (has_round_ && message.round < round_) return refuse(Status::kBadRound, round_);
  const bool begins = !has_round_ || message.round > round_;
  const uint32_t expected = begins ? 0 : loaded_;
  if (!begins && (state_ != State::kLoading || message.offset < expected)) return Status::kOk;
  if (message.offset != expected) return refuse(Status::kBadOffset, expected);
  if (const Status status = received_.check(message); status != Status::kOk) return refuse(status, message.offset);

  if (begins) {
    settle();
    round_ = message.round;
    has_round_ = true;
    state_ = State::kLoading;
    step_ = 0;
    ticks_ = 0;
    fault_ = Status::kOk;
    delta_ = Encoder();  // nobody can pull an earlier round's entries as this one's
  }
  received_.take(message, parameters_);
  loaded_ = message.offset + static_cast<uint32_t>(count);
  if (weights_complete()) {
    model::Model<float>::start_local(parameters_);
    state_ = State::kLoaded;
  }
  return Status::kOk;
}

// What the round that ends here leaves for its client's next one; a delta that was frozen counts as received.
void Learner::settle() {
  if (!has_round_ || state_ != State::kDone || delta_.count() == 0) return;
  kept_local_.keep(parameters_, client_);
  residual_.keep(delta_, change());
}

Status Learner::train(const protocol::Train& message) {
  if (!has_round_ || state_ == State::kLoading) return Status::kBadState;
  if (message.round != round_) return refuse(Status::kBadRound, round_);
  if (message.program > static_cast<uint8_t>(protocol::Program::kAdapt)) return Status::kBadValue;
  if (!recipes_[message.program].ready) return Status::kBadState;
  if (state_ != State::kLoaded) return Status::kOk;  // asked again: it reports and does not train
  seed_ = message.seed;
  client_ = message.client;
  draw_ = message.draw;
  recipe_ = &recipes_[message.program];
  for (uint32_t i = model::kParameterCount; i < model::kStateCount; ++i) parameters_[i] = 0.0f;  // velocities, or gradients
  redraw_local(parameters_, {seed_, client_, draw_});
  kept_local_.restore(parameters_, client_);
  phase_ = 0;
  phase_end_ = 0;
  state_ = State::kTraining;
  enter_phase();
  return Status::kOk;
}

Status Learner::sample(const protocol::Sample& message) {
  if (!has_round_ || source::on_device()) return Status::kBadState;
  if (message.round != round_) return refuse(Status::kBadRound, round_);
  if (state_ == State::kIdle || state_ == State::kLoading || state_ == State::kLoaded) return Status::kBadState;
  if (message.step < step_ || state_ == State::kFailed) return Status::kOk;  // trained already, or never to be
  if (state_ != State::kTraining || message.step > step_) return refuse(Status::kBadOffset, step_);
  const size_t width = input_width(message.dtype);
  if (width == 0 || !is_finite(message.scale)) return Status::kBadValue;
  if (message.data_size != 4 * model::kTargetSize + width * model::kInputSize) return Status::kBadLength;
  Reader in(message.data, message.data_size);
  if (const Status status = read_targets(in, arena_.values + model::kTarget); status != Status::kOk) return status;
  if (const Status status = read_inputs(in, message.dtype, message.scale, arena_.values + model::kInput);
      status != Status::kOk)
    return status;
  step();
  return Status::kOk;
}

bool Learner::work() {
  if (state_ != State::kTraining || !source::on_device()) return false;
  const protocol::Phase& phase = recipe_->phases[phase_];
  const uint32_t index = (step_ - phase_start_) % phase.count;
  const source::Key key = {seed_, client_, draw_, static_cast<protocol::SampleSet>(phase.sample_set), index};
  source::make(key, arena_.values + model::kInput, arena_.values + model::kTarget);
  step();
  return true;
}

void Learner::step() {
  const protocol::Phase& phase = recipe_->phases[phase_];
  const uint32_t before = port::ticks();
  train_step(static_cast<protocol::Variant>(phase.variant), parameters_, arena_.values, phase.learning_rate,
             phase.output_clamp);
  ticks_ += port::ticks() - before;
  if (++step_ == phase_end_) {
    ++phase_;
    enter_phase();
  }
}

void Learner::enter_phase() {
  if (phase_ == protocol::kMaxPhases || recipe_->phases[phase_].passes == 0) {
    descend(parameters_, recipe_->phases, protocol::kMaxPhases);
    finish();
    return;
  }
  const protocol::Phase& phase = recipe_->phases[phase_];
  phase_start_ = phase_end_;
  phase_end_ += static_cast<uint32_t>(phase.count) * phase.passes;
}

// Freezes the delta; a weight that is not finite never leaves the device.
void Learner::finish() {
  fault_ = Status::kOk;
  for (const float weight : parameters_)
    if (!is_finite(weight)) fault_ = Status::kNotFinite;
  if (fault_ == Status::kOk && recipe_->top_k > 0) {
    const Choice choice = {recipe_->selection, seed_, client_, draw_};
    fault_ = delta_.freeze(change(), model::kLayerEnds, recipe_->top_k, choice, recipe_->uplink, arena_.histogram);
  }
  state_ = fault_ == Status::kOk ? State::kDone : State::kFailed;
}

Status Learner::progress(uint32_t round, protocol::Progress& out) {
  if (!has_round_) return Status::kBadState;
  if (round != round_) return refuse(Status::kBadRound, round_);
  out.round = round_;
  out.state = static_cast<uint8_t>(state_);
  out.fault = static_cast<uint8_t>(fault_);
  out.step = step_;
  out.ticks = ticks_;
  return Status::kOk;
}

Status Learner::pull(const protocol::Pull& message, protocol::Delta& header, uint8_t* data, size_t capacity,
                     size_t& size) {
  if (!has_round_ || state_ != State::kDone || delta_.count() == 0) return Status::kBadState;
  if (message.round != round_) return refuse(Status::kBadRound, round_);
  if (message.rank >= delta_.count()) return refuse(Status::kBadOffset, delta_.count());
  header.round = round_;
  return delta_.encode(change(), message.rank, header, data, capacity, size);
}

Status Learner::fetch(const protocol::Fetch& message, Writer& out) {
  if (!weights_complete()) return Status::kBadState;
  if (message.offset >= model::kParameterCount) return refuse(Status::kBadOffset, model::kParameterCount);
  out.u32(message.offset);
  uint32_t end = message.offset;
  for (uint32_t i = 0; i < message.count && end < model::kParameterCount && out.left() >= 4; ++i) out.f32(parameters_[end++]);
  return Status::kOk;
}

Status Learner::predict(const protocol::Predict& message, Writer& out) {
  if (!weights_complete() || state_ == State::kLoading) return Status::kBadState;
  const size_t width = input_width(message.dtype) * model::kInputSize;
  if (width == 0 || !is_finite(message.scale)) return Status::kBadValue;
  if (message.data_size == 0 || message.data_size % width != 0) return Status::kBadLength;
  if (message.data_size / width * (4 * model::kOutputSize) > out.left()) return Status::kTooLarge;
  Reader in(message.data, message.data_size);
  while (in.left() > 0) {
    if (const Status status = read_inputs(in, message.dtype, message.scale, arena_.values + model::kInput);
        status != Status::kOk)
      return status;
    model::Model<float>::forward(parameters_, arena_.values);
    for (uint32_t i = 0; i < model::kOutputSize; ++i) out.f32(arena_.values[model::kOutput + i]);
  }
  return Status::kOk;
}

}  // namespace tmf
