// The state machine of one cycle (Load, Train, Pull). The wire table's code checks the range of each field. This file checks
// what depends on the model and on the state, before any weight changes.
#include "learner.hpp"

#include "math.hpp"
#include "port.hpp"
#include "sample_check.hpp"
#include "source.hpp"
#include "step.hpp"

namespace tmf {

using protocol::Dtype;
using protocol::Selection;
using protocol::State;

namespace {

Status read_inputs(Reader& in, Dtype dtype, float scale, float* inputs) {
  for (uint32_t i = 0; i < model::kInputSize; ++i) {
    inputs[i] = dtype == Dtype::kU8 ? static_cast<float>(in.u8()) * scale : in.f32();
    if (!is_finite(inputs[i])) return Status::kNotFinite;
  }
  if (!in.ok()) return Status::kBadLength;
  if constexpr (model::kLargestInput > 0) return check_inputs(inputs);
  return Status::kOk;
}

Status read_targets(Reader& in, float* targets) {
  for (uint32_t i = 0; i < model::kTargetSize; ++i) targets[i] = in.f32();
  if (const Status status = check_targets(targets); status != Status::kOk) return status;
  return in.ok() ? Status::kOk : Status::kBadLength;
}

}  // namespace

Outcome Learner::configure(const protocol::Configure& message) {
  const protocol::Recipe& wanted = message.recipe;
  if (wanted.top_k > model::kGlobalCount) return Status::kBadValue;
  if (!PrivateUpdate::allows(wanted) || !SecureSum::allows(wanted) || !CodedUpdate::allows(wanted)) return Status::kBadValue;
  if (wanted.selection == Selection::kLayer && wanted.top_k > 0 && wanted.top_k < kLayers) return Status::kBadValue;
  uint64_t steps = 0;
  for (const protocol::Phase& phase : wanted.phases) {
    if (!has_variant(phase.variant)) return Status::kBadValue;
    steps += static_cast<uint64_t>(phase.count) * phase.passes;
  }
  if (steps >= UINT32_MAX) return Status::kBadValue;

  if (!has_session_ || message.session != session_) {
    session_ = message.session;
    has_session_ = true;
    has_token_ = false;
    state_ = State::kIdle;
    is_alone_ = false;
    SampleParts::drop();
    load_saved();
    kept_local_.clear();
    residual_.clear();
    for (Configured& program : programs_) program.ready = false;
  }
  Configured& program = programs_[static_cast<size_t>(message.program)];
  if (program.ready && program.recipe == wanted) return Status::kOk;
  if (state_ == State::kTraining && !is_alone_) return Status::kBadState;  // the recipe of a running program must not change
  program.recipe = wanted;
  program.ready = true;
  return Status::kOk;
}

// The weights that firmware with a store has saved, which take the place of those that are there.
void Learner::load_saved() {
  const bool is_saved = SavedState::load_weights(parameters_);
  loaded_ = is_saved ? model::kGlobalCount : 0;
  if (is_saved) {
    is_whole_ = true;
    SavedState::load_key(key_);
  }
}

Outcome Learner::load(const protocol::Load& message) {
  if (!has_session_ || LevelLoad::kTakesLevels) return Status::kBadState;
  if (message.dtype != model::kDownlink) return Status::kBadValue;
  constexpr size_t kWidth = protocol::width(model::kDownlink);
  const size_t count = message.data_size / kWidth;
  if (count == 0 || message.data_size % kWidth != 0) return Status::kBadLength;
  return take_load(message, count, [&] { return received_.check(message); }, [&] { received_.store(message, parameters_); });
}

// Stores the local weights and the residual of the cycle that a new Load ends. The server is assumed to have received the
// cycle's delta, if it was frozen.
void Learner::keep_for_next_round() {
  if (!has_token_ || state_ != State::kDone || delta_.count() == 0) return;
  kept_local_.save(parameters_, key_.client);
  residual_.update(delta_, change());
}

Outcome Learner::train(const protocol::Train& message) {
  if (!has_token_ || state_ == State::kLoading) return Status::kBadState;
  if (message.token != token_) return {Status::kBadToken, token_};
  const Configured& program = programs_[static_cast<size_t>(message.program)];
  if (!program.ready) return Status::kBadState;
  if (state_ != State::kLoaded) return Status::kOk;  // a repeated Train: the answer reports progress
  SampleParts::drop();
  key_ = {message.seed, message.client, message.round};
  recipe_ = &program.recipe;
  for (uint32_t i = model::kParameterCount; i < model::kStateCount; ++i) parameters_[i] = 0.0f;  // velocities or gradients
  redraw_local(parameters_, key_);
  SavedState::load_round(key_, recipe_->top_k > 0, kept_local_, residual_);
  kept_local_.restore(parameters_, key_.client);
  phase_ = 0;
  phase_end_ = 0;
  state_ = State::kTraining;
  enter_phase();
  return Status::kOk;
}

Outcome Learner::sample(const protocol::Sample& message) {
  if (SampleParts::kReadsBytes || !has_token_ || is_alone_ || source::on_device()) return Status::kBadState;
  if (message.token != token_) return {Status::kBadToken, token_};
  if (state_ == State::kIdle || state_ == State::kLoading || state_ == State::kLoaded) return Status::kBadState;
  if (message.step < step_ || state_ == State::kFailed) return Status::kOk;  // already trained, or training has failed
  if (state_ != State::kTraining || message.step > step_) return {Status::kBadOffset, step_};
  const size_t input_bytes = protocol::width(message.dtype) * model::kInputSize;
  if (message.data_size != protocol::width(Dtype::kF32) * model::kTargetSize + input_bytes) return Status::kBadLength;
  SampleParts::drop();
  Reader in(message.data, message.data_size);
  if (const Status status = read_targets(in, arena_.values + model::kTarget); status != Status::kOk) return status;
  if (const Status status = read_inputs(in, message.dtype, message.scale, arena_.values + model::kInput);
      status != Status::kOk)
    return status;
  KeptSamples::keep(sample_index(), message);
  if constexpr (augmentation::kAugments) augment(step_);
  step();
  return Status::kOk;
}

// Writes a kept sample into the arena; it was checked when it came.
void Learner::put_back(uint32_t index) {
  if constexpr (KeptSamples::kMost > 0) {
    Reader in = KeptSamples::kept(index);
    static_cast<void>(read_targets(in, arena_.values + model::kTarget));
    static_cast<void>(read_inputs(in, KeptSamples::kDtype, KeptSamples::scale(), arena_.values + model::kInput));
  }
}

bool Learner::work() {
  if (state_ != State::kTraining || !(source::on_device() || KeptActivations::holds_all() || KeptSamples::holds_all()))
    return false;
  SampleParts::drop();
  const uint32_t index = sample_index();
  const bool needs_sample = !KeptActivations::holds(index);
  if (needs_sample && KeptSamples::holds(index)) {
    put_back(index);
  } else if (needs_sample) {
    const source::Key key = {key_.seed, key_.client, {key_.round}, recipe_->phases[phase_].sample_set, index};
    source::make(key, arena_.values + model::kInput, arena_.values + model::kTarget);
  }
  if constexpr (augmentation::kAugments) augment(step_);
  step();
  return true;
}

[[gnu::always_inline]] inline void Learner::count_step() {
  if (++step_ == phase_end_) {
    ++phase_;
    enter_phase();
  }
}

void Learner::augment(uint32_t number) {
  if (!augmentation::applies(recipe_->phases[phase_].sample_set)) return;
  const uint32_t before = port::ticks();
  float* const input = arena_.values + model::kInput;
  if constexpr (kReadsBytes) augmentation::change(reinterpret_cast<uint8_t*>(input + 1), key_, number);
  else augmentation::change(input, key_, number);
  ticks_ += port::ticks() - before;
}

void Learner::step() {
  if constexpr (kSplitsSteps) {
    next_part_ = first_part(sample_index(), arena_.values);
    in_step_ = true;
    return;
  }
  const protocol::Phase& phase = recipe_->phases[phase_];
  const uint32_t before = port::ticks();
  KeptActivations::train(phase, sample_index(), parameters_, arena_.values);
  ticks_ += port::ticks() - before;
  count_step();
}

void Learner::continue_step() {
  if constexpr (kSplitsSteps) {
    const protocol::Phase& phase = recipe_->phases[phase_];
    const uint32_t before = port::ticks();
    in_step_ = train_part(phase, sample_index(), next_part_++, parameters_, arena_.values);
    ticks_ += port::ticks() - before;
    if (!in_step_) count_step();
  }
}

void Learner::enter_phase() {
  if (phase_ == protocol::kMaxPhases || recipe_->phases[phase_].passes == 0) {
    apply_mean_gradient(parameters_, recipe_->phases, protocol::kMaxPhases);
    finish();
    return;
  }
  const protocol::Phase& phase = recipe_->phases[phase_];
  phase_start_ = phase_end_;
  phase_end_ += static_cast<uint32_t>(phase.count) * phase.passes;
  if (augmentation::applies(phase.sample_set)) {
    KeptActivations::leave();  // in the next pass the inputs are others
    KeptSamples::leave();
  } else {
    KeptActivations::enter(phase, phase_ > 0, is_alone_);
    KeptSamples::enter(phase, phase_ > 0, is_alone_);
  }
}

Status Learner::weights_status() const { return all_finite(parameters_, model::kStateCount) ? Status::kOk : Status::kNotFinite; }

// Freezes the delta. If a weight is not finite, the program fails and nothing is sent.
void Learner::finish() {
  KeptActivations::leave();
  KeptSamples::leave();
  fault_ = weights_status();
  if (fault_ == Status::kOk && recipe_->top_k > 0) {
    fault_ = delta_.freeze(PrivateUpdate::noised(change()), model::kLayerEnds, *recipe_,
                           SecureSum::selection_key(PrivateUpdate::selection_key(key_)), arena_.histogram);
    if (fault_ == Status::kOk) fault_ = PrivateUpdate::draw(delta_, change(), key_);
    if (fault_ == Status::kOk)
      fault_ = CodedUpdate::plan(delta_, PrivateUpdate::noised(change()), arena_.histogram);
    if (fault_ == Status::kOk) SavedState::save_round(key_, delta_, change(), parameters_);
  }
  state_ = fault_ == Status::kOk ? State::kDone : State::kFailed;
}

Outcome Learner::progress(uint32_t token, protocol::Progress& out) const {
  if (!has_token_) return Status::kBadState;
  if (token != token_) return {Status::kBadToken, token_};
  out = {token_, state_, fault_, step_, ticks_};
  if (is_alone_) {  // what the board does by itself is no progress of the host's cycle
    out.state = State::kIdle;
    out.fault = Status::kOk;
  }
  return Status::kOk;
}

Outcome Learner::pull(const protocol::Pull& message, protocol::Delta& header, uint8_t* data, size_t capacity,
                      size_t& size) {
  if constexpr (SecureSum::kIsSecure || CodedUpdate::kIsCoded) return Status::kBadState;
  if (!has_token_ || state_ != State::kDone || delta_.count() == 0) return Status::kBadState;
  if (message.token != token_) return {Status::kBadToken, token_};
  if (message.rank >= delta_.count()) return {Status::kBadOffset, delta_.count()};
  header.token = token_;
  const Status status = delta_.encode(PrivateUpdate::noised(change()), message.rank, header, data, capacity, size);
  if (status == Status::kOk && header.rank + header.count == delta_.count()) is_pulled_ = true;
  return status;
}

Outcome Learner::fetch(const protocol::Fetch& message, Writer& out) const {
  if constexpr (PrivateUpdate::kIsPrivate || SecureSum::kIsSecure) return Status::kBadState;
  if (!weights_complete()) return Status::kBadState;
  if (message.offset >= model::kParameterCount) return {Status::kBadOffset, model::kParameterCount};
  protocol::Weights answer;
  answer.offset = message.offset;
  answer.write_head(out);
  uint32_t end = message.offset;
  for (uint32_t i = 0; i < message.count && end < model::kParameterCount && out.left() >= protocol::width(Dtype::kF32); ++i)
    out.f32(parameters_[end++]);
  return Status::kOk;
}

Outcome Learner::predict(const protocol::Predict& message, Writer& out) {
  if (!may_predict()) return Status::kBadState;
  if (SampleParts::kReadsBytes) return Status::kBadValue;  // its inputs are bytes, which come in parts
  constexpr size_t kOutputBytes = protocol::width(Dtype::kF32) * model::kOutputSize;
  const size_t input_bytes = protocol::width(message.dtype) * model::kInputSize;
  if (message.data_size == 0 || message.data_size % input_bytes != 0) return Status::kBadLength;
  protocol::Outputs().write_head(out);
  if (message.data_size / input_bytes * kOutputBytes > out.left()) return Status::kTooLarge;
  SampleParts::drop();
  Reader in(message.data, message.data_size);
  while (in.left() > 0) {
    if (const Status status = read_inputs(in, message.dtype, message.scale, arena_.values + model::kInput);
        status != Status::kOk)
      return status;
    if constexpr (kAverages) Averaging::run(parameters_, arena_.values);
    else model::Model<float>::forward(parameters_, arena_.values);
    for (uint32_t i = 0; i < model::kOutputSize; ++i) out.f32(arena_.values[model::kOutput + i]);
  }
  return Status::kOk;
}

}  // namespace tmf
