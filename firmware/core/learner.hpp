// Training on the device, one sample at a time: a client's round (reconstruction, update, delta) or an adaptation.
#pragma once

#include <cstdint>

#include <augmentation.hpp>      // generated for firmware whose samples change
#include <averaging.hpp>         // generated for firmware that averages predictions
#include <coded_update.hpp>      // generated for firmware that codes the values of its updates
#include <held_version.hpp>      // generated for firmware that takes differences of weights
#include <kept_activations.hpp>  // generated for firmware that keeps activations
#include <kept_samples.hpp>      // generated for firmware that keeps samples
#include <level_load.hpp>        // generated for firmware that gets its weights as levels
#include <private_update.hpp>    // generated for firmware with private updates
#include <sample_parts.hpp>      // generated for firmware that takes samples in parts
#include <saved_state.hpp>       // generated for firmware with a store
#include <secure_sum.hpp>        // generated for firmware with secure aggregation

#include "bytes.hpp"
#include "delta_codec.hpp"
#include "kept_local.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "received.hpp"
#include "residual.hpp"
#include "step_in_parts.hpp"

namespace tmf {

// The result of a request: kOk, or the reason for the refusal. `detail` is the token, offset, rank or step that the request
// should have had, or 0.
struct [[nodiscard]] Outcome {
  Status status;
  uint32_t detail;

  Outcome(Status why, uint32_t expected = 0) : status(why), detail(expected) {}  // NOLINT: implicit, as most have no detail
  bool ok() const { return status == Status::kOk; }
};

// Carries out the host's requests. Requests are idempotent: a repeated request gets the same answer and trains nothing twice.
//
// States: IDLE -> LOADING -> LOADED -> TRAINING -> DONE or FAILED. In any state, a Load with a higher token begins a new cycle.
// Some models keep local weights or a residual from round to round. A new session clears both; firmware with a store has saved
// them. SavedState, KeptActivations, KeptSamples, PrivateUpdate, SecureSum, CodedUpdate, HeldVersion, SampleParts and Averaging are
// bases, because as members they would take memory even when they are empty.
//
// Between two cycles the board's own program may learn, which ends the last cycle: the board is *alone* until the next Load.
class Learner : private SavedState,
                private KeptActivations,
                private KeptSamples,
                private PrivateUpdate,
                private SecureSum,
                private CodedUpdate,
                private HeldVersion,
                private SampleParts,
                private Averaging,
                private StepPosition<kSplitsSteps> {
 public:
  // Called once after a start: loads the weights that were saved, so that the device predicts with them.
  void begin() {
    SavedState::open();
    load_saved();
  }

  // One function for each request of the wire table. A refused request changes nothing.
  Outcome configure(const protocol::Configure& message);
  Outcome load(const protocol::Load& message);
  Outcome train(const protocol::Train& message);
  Outcome sample(const protocol::Sample& message);
  Outcome progress(uint32_t token, protocol::Progress& out) const;
  // Fills `header` and writes the entries to `data`, which has `capacity` bytes; `size` is the number of bytes written.
  Outcome pull(const protocol::Pull& message, protocol::Delta& header, uint8_t* data, size_t capacity, size_t& size);
  Outcome fetch(const protocol::Fetch& message, Writer& out) const;
  Outcome predict(const protocol::Predict& message, Writer& out);
  // Requests that only firmware with a store knows.
  Outcome store(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    return SavedState::answer(type, payload, size, out, [this](const uint8_t* names) { return keep(names); });
  }

  // Requests that only firmware with secure aggregation knows. Such firmware refuses those that would show one update: Pull,
  // Fetch, and Predict with weights that were trained for an update.
  Outcome secure_sum(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    uint32_t detail = 0;
    const Status status = SecureSum::answer(type, payload, size, out, detail, is_frozen(), token_, delta_,
                                            PrivateUpdate::noised(change()));
    if (SecureSum::is_opened()) is_pulled_ = true;
    return {status, detail};
  }

  // Requests that only firmware knows that codes the values of its updates. Such firmware refuses Pull.
  Outcome coded_update(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    uint32_t detail = 0;
    const Status status = CodedUpdate::answer(type, payload, size, out, detail, is_frozen(), token_, delta_,
                                              PrivateUpdate::noised(change()), is_pulled_);
    return {status, detail};
  }

  // Requests that only firmware with a download by difference knows.
  Outcome difference(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    uint32_t detail = 0;
    const Status status = HeldVersion::answer(type, payload, size, out, detail, *this);
    return {status, detail};
  }

  // Requests that only firmware knows that gets its weights as levels. Such firmware refuses Load.
  Outcome level_load(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    uint32_t detail = 0;
    const Status status = LevelLoad::answer(type, payload, size, out, detail, *this);
    return {status, detail};
  }

  // Requests that only firmware knows that takes samples in parts; and the answer to a part whose step has ended.
  Outcome parts(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
    uint32_t detail = 0;
    const Status status = SampleParts::answer(type, payload, size, out, detail, *this);
    return {status, detail};
  }
  Outcome sample_taken(Writer& out) const {
    uint32_t detail = 0;
    const Status status = SampleParts::report(token_, out, detail, *this);
    return {status, detail};
  }

  // Trains one sample that the device makes itself or has kept, if a program is running. Returns whether it did. Where steps are
  // split, it only begins the step, as `sample` does.
  bool work();

  // Whether a step is begun and not finished. The arena is in use meanwhile: only `finish_step` and `continue_step`, which
  // trains the next part, may be called.
  using StepPosition<kSplitsSteps>::in_step;
  void continue_step();
  void finish_step() {
    while (in_step()) continue_step();
  }
  uint32_t token() const { return token_; }

  // Whether an Await for `step` can be answered: the step is trained, or training has ended, or the token is wrong.
  bool can_answer(uint32_t token, uint32_t step) const {
    return state_ != protocol::State::kTraining || token != token_ || step_ >= step;
  }

  uint32_t next_offset() const { return loaded_; }

  // Whether the board's own program may learn: there are whole weights, and no cycle of the host is in progress.
  bool is_free() const { return is_whole_ && !in_cycle(); }

  // For the board's own program. A refused call changes nothing. kBadState: there are no whole weights yet, or, for all but
  // `predict`, a cycle of the host is in progress; or a sample of the host has come in part.

  // Runs the model forward with the current weights. Fails with kNotFinite for an input or an output that is not finite.
  Status predict(const float* inputs, float* outputs);
  // Trains one sample: a step of the last phase of [adaptation], or, after `adapt`, the next step of all its phases. Fails with
  // kBadValue for a class that there is not or an input beyond model::kLargestInput, and with kNotFinite for such an input or
  // target, or if the weights have diverged. Adds the error of the prediction before that step to the board's statistics.
  Status learn(const float* inputs, const float* targets);
  // Saves weights and statistics in the store; `names` of classes as for SavedState::save. Also fails with kNotFinite, and with
  // kBadState or kTooLarge where there is no store or the flash does not take them.
  Status keep(const uint8_t* names = nullptr);
  // Returns to the received weights and the initial local weights, and starts [adaptation] on the board's own samples. Where the
  // board makes them itself, `work` trains them; otherwise `learn` brings one after the other, in the order of the phases.
  Status adapt();
  // Leaves a cycle that the host has begun and not finished. The host then has to begin it anew.
  void leave();

 private:
  friend class HeldVersion;  // a difference begins a cycle, as a Load does
  friend LevelLoad;
  friend class SampleParts;
  static constexpr uint32_t kGlobalCount = model::kGlobalCount;
  static constexpr uint32_t kLayers = sizeof model::kLayerEnds / sizeof model::kLayerEnds[0];

  using Downlink = Received<model::kDownlink, model::kGlobalEnds>;
  using Encoder = DeltaEncoder<kLayers>;

  // The change of each global weight since it was received, plus the residual of earlier rounds.
  struct Change {
    const float* now;
    const Downlink& received;
    const Residual<model::kFeedsBack>& residual;
    float operator()(uint32_t i) const { return residual.add_to(i, now[i] - received[i]); }
  };

  struct Configured {
    protocol::Recipe recipe;
    bool ready = false;
  };

  bool is_frozen() const { return has_token_ && state_ == protocol::State::kDone && delta_.count() > 0; }
  bool weights_complete() const { return loaded_ == model::kGlobalCount; }
  // Whether the host may ask for predictions.
  [[gnu::always_inline]] bool may_predict() const {
    if (!weights_complete() || state_ == protocol::State::kLoading) return false;
    if constexpr (PrivateUpdate::kIsPrivate || SecureSum::kIsSecure) return shows_received_or_adapted();
    return true;
  }
  bool in_cycle() const;
  void go_alone();
  Status run_forward(const float* inputs);
  void begin_cycle(uint32_t token);
  template <typename LoadRequest, typename Check, typename Store>
  Outcome take_load(const LoadRequest& message, size_t count, Check check, Store store);
  void end_load();             // all weights of the cycle are there
  void keep_for_next_round();  // what the model keeps: local weights, residuals
  void load_saved();
  void enter_phase();
  void augment(uint32_t number);  // changes the sample in the arena at random, as that of step `number`
  void put_back(uint32_t index);  // a sample that is kept
  void step();
  void count_step();
  // The number of the next sample in the set of the phase.
  uint32_t sample_index() const { return (step_ - phase_start_) % recipe_->phases[phase_].count; }
  void finish();
  Status weights_status() const;  // kNotFinite if a weight is not finite
  Change change() const { return {parameters_, received_, residual_}; }
  // Whether the weights are as received, or those of an adaptation: their predictions tell nothing of a client's round. The
  // recipe may be another one since the program's end; what the program has frozen stays.
  bool shows_received_or_adapted() const {
    if (!is_received_ || is_alone_) return false;
    if (state_ == protocol::State::kDone) return delta_.count() == 0;
    return state_ == protocol::State::kLoaded || (state_ == protocol::State::kTraining && recipe_->top_k == 0);
  }

  Configured programs_[2];
  uint32_t session_ = 0;
  bool has_session_ = false;
  bool has_token_ = false;

  protocol::State state_ = protocol::State::kIdle;
  Status fault_ = Status::kOk;
  uint32_t token_ = 0;
  uint32_t loaded_ = 0;  // number of global weights received
  Key key_;  // of the client that is being trained, or was last
  const protocol::Recipe* recipe_ = nullptr;
  uint32_t phase_ = 0;
  uint32_t phase_start_ = 0;  // first step of this phase
  uint32_t phase_end_ = 0;    // first step after this phase
  uint32_t step_ = 0;
  uint32_t ticks_ = 0;
  Encoder delta_;
  bool is_whole_ = false;     // the weights are those of one Load, or saved ones, and what was trained from them
  bool is_received_ = false;  // the global weights of one Load are there, to return to
  bool is_pulled_ = false;  // the delta's last entry has been encoded
  bool is_alone_ = false;   // the host's cycle is over, and what is in progress is the board's own

  float parameters_[model::kStateCount] = {};
  Downlink received_;
  KeptLocal<model::kKeepsLocal> kept_local_;
  Residual<model::kFeedsBack> residual_;
  // The selection's histogram shares the arena with activations and gradients: it is used only between training steps.
  union Arena {
    float values[model::kArenaFloats];
    uint32_t histogram[model::kHistogramBins];
  };
  alignas(16) Arena arena_ = {};
};

[[gnu::always_inline]] inline void Learner::begin_cycle(uint32_t token) {
  keep_for_next_round();
  SecureSum::begin_cycle();
  token_ = token;
  has_token_ = true;
  state_ = protocol::State::kLoading;
  step_ = 0;
  ticks_ = 0;
  fault_ = Status::kOk;
  is_whole_ = is_received_ = is_pulled_ = is_alone_ = false;
  SampleParts::drop();
  delta_ = Encoder();  // a Pull must not return an earlier cycle's entries
}

[[gnu::always_inline]] inline void Learner::end_load() {
  model::Model<float>::start_local(parameters_);
  state_ = protocol::State::kLoaded;
  is_whole_ = is_received_ = true;
}

// Takes the `count` weights that a message brings: `check()` says whether it is valid, `store()` writes them.
template <typename LoadRequest, typename Check, typename Store>
inline Outcome Learner::take_load(const LoadRequest& message, size_t count, Check check, Store store) {
  if (message.offset >= model::kGlobalCount || count > model::kGlobalCount - message.offset) return {Status::kBadOffset, loaded_};
  // A late copy of an earlier cycle's message must not end the cycle in progress.
  if (has_token_ && message.token < token_) return {Status::kBadToken, token_};
  const bool begins = !has_token_ || message.token > token_;
  const uint32_t expected = begins ? 0 : loaded_;
  if (!begins && (state_ != protocol::State::kLoading || message.offset < expected)) return Status::kOk;
  if (expected != message.offset) return {Status::kBadOffset, expected};
  if (const Status status = check(); status != Status::kOk) return {status, message.offset};

  if (begins) begin_cycle(message.token);
  HeldVersion::forget();
  store();
  loaded_ = message.offset + static_cast<uint32_t>(count);
  if (weights_complete()) {
    end_load();
    HeldVersion::hold(received_);
  }
  return Status::kOk;
}

static_assert(model::kArenaFloats >= model::kHistogramBins, "the arena holds the selection's histogram");
static_assert(model::kParameterCount <= protocol::kMaxParameters, "ranks and indices are sized for this many weights");

}  // namespace tmf
