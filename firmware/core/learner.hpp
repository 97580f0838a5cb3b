// Learning on the device: one round of reconstruct, update and delta, or one adaptation, a sample at a time.
#pragma once

#include <cstdint>

#include "bytes.hpp"
#include "delta_codec.hpp"
#include "kept_local.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "received.hpp"
#include "residual.hpp"

namespace tmf {

// What becomes of a request: kOk, or why it is refused and what it should have named: the token, offset, rank or step; else 0.
struct [[nodiscard]] Outcome {
  Status status;
  uint32_t detail;

  Outcome(Status why, uint32_t expected = 0) : status(why), detail(expected) {}  // NOLINT: most have no detail
  bool ok() const { return status == Status::kOk; }
};

// Passive and idempotent: whoever asks twice gets the same answer, and no sample is ever trained twice.
//
// What it keeps from one round to the next, if anything, it keeps for a session.
//   IDLE -> LOADING -> LOADED -> TRAINING -> DONE or FAILED; a Load with a higher token starts again from anywhere.
class Learner {
 public:
  Outcome configure(const protocol::Configure& message);
  Outcome load(const protocol::Load& message);
  Outcome train(const protocol::Train& message);
  Outcome sample(const protocol::Sample& message);
  Outcome progress(uint32_t token, protocol::Progress& out) const;
  Outcome pull(const protocol::Pull& message, protocol::Delta& header, uint8_t* data, size_t capacity, size_t& size);
  Outcome fetch(const protocol::Fetch& message, Writer& out) const;
  Outcome predict(const protocol::Predict& message, Writer& out);

  // Trains one sample of the device's own source, if one is due. Returns whether it did.
  bool work();

  // Whether there is nothing to wait for: step `step` of this cycle is trained, or will never be.
  bool settled(uint32_t token, uint32_t step) const {
    return state_ != protocol::State::kTraining || token != token_ || step_ >= step;
  }

  uint32_t next_offset() const { return loaded_; }

 private:
  static constexpr uint32_t kLayers = sizeof model::kLayerEnds / sizeof model::kLayerEnds[0];

  using Downlink = Received<model::kDownlink, model::kGlobalEnds>;
  using Encoder = DeltaEncoder<kLayers>;

  // The change of the global part since it was received, with what is still owed of earlier ones.
  struct Change {
    const float* now;
    const Downlink& received;
    const Residual<model::kFeedsBack>& residual;
    float operator()(uint32_t i) const { return residual.with(i, now[i] - received[i]); }
  };

  struct Configured {
    protocol::Recipe recipe;
    bool ready = false;
  };

  bool weights_complete() const { return loaded_ == model::kGlobalCount; }
  void settle();
  void enter_phase();
  void step();
  void finish();
  Change change() const { return {parameters_, received_, residual_}; }

  Configured programs_[2];
  uint32_t session_ = 0;
  bool has_session_ = false;
  bool has_token_ = false;

  protocol::State state_ = protocol::State::kIdle;
  Status fault_ = Status::kOk;
  uint32_t token_ = 0;
  uint32_t loaded_ = 0;  // global weights received
  Key key_;  // of the client that is trained, or was last
  const protocol::Recipe* recipe_ = nullptr;
  uint32_t phase_ = 0;
  uint32_t phase_start_ = 0;  // first step of this phase
  uint32_t phase_end_ = 0;    // first step after it
  uint32_t step_ = 0;
  uint32_t ticks_ = 0;
  Encoder delta_;

  float parameters_[model::kStateCount] = {};
  Downlink received_;
  KeptLocal<model::kKeepsLocal> kept_local_;
  Residual<model::kFeedsBack> residual_;
  // The selection's counters live where activations and gradients do: it only runs when no training step does.
  union Arena {
    float values[model::kArenaFloats];
    uint32_t histogram[model::kHistogramBins];
  };
  alignas(16) Arena arena_ = {};
};

static_assert(model::kArenaFloats >= model::kHistogramBins, "the arena holds the selection's histogram");
static_assert(model::kParameterCount <= protocol::kMaxParameters, "ranks and indices are sized for this many weights");

}  // namespace tmf
