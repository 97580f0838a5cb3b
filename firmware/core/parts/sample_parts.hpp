// Takes samples and inputs that are larger than one message, part by part, straight into their place in the arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <augmentation.hpp>  // generated for firmware whose samples change

#include "bytes.hpp"
#include "math.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "sample_check.hpp"
#include "source.hpp"

namespace tmf {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied into the arena as they travel");

// Between two steps the arena is free, so a sample waits there until its last part has come: a byte for each input in U8. Nothing
// of it is used before. Whatever else needs the arena drops what waits, and the host begins that sample again.
class SampleParts {
 public:
  static constexpr bool kTakesParts = true;
  static constexpr bool kReadsBytes = parts::kReadsBytes;  // inputs stay bytes: nobody can give them as floats

  // What the host sends, for the simulation, which counts it: bytes of a sample in a message, and the fields before them.
  static constexpr uint32_t kPartBytes = parts::kPartBytes;
  static constexpr size_t kHeadBytes = protocol::SamplePart::kFixedSize;
  static void write_head(Writer& out, uint32_t position, protocol::Dtype dtype, float scale) {
    protocol::SamplePart part;
    part.token = part.position = position;
    part.dtype = dtype;
    part.scale = scale;
    part.write_head(out);
  }

  // Whether some parts of a sample or an input have come, and others not. The board's own program must not use the arena then.
  bool waits() const { return waiting_ == Waiting::kSample || waiting_ == Waiting::kInput; }

  // Forgets what has come: the arena is about to be used.
  void drop() {
    waiting_ = Waiting::kNothing;
    taken_ = 0;
  }

  // Answers a part. kUnknownType for any other message. `detail`: as for the learner's Outcome.
  template <typename Learner>
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail, Learner& learner) {
    if (type == protocol::SamplePart::kType) {
      protocol::SamplePart part;
      if (const Status status = protocol::parse(payload, size, part); status != Status::kOk) return status;
      if (const Status status = take_sample(part, detail, learner); status != Status::kOk) return status;
      return learner.in_step() ? Status::kOk : report(part.token, out, detail, learner);
    }
    if (type != protocol::InputPart::kType) return Status::kUnknownType;
    protocol::InputPart part;
    if (const Status status = protocol::parse(payload, size, part); status != Status::kOk) return status;
    return take_input(part, detail, learner, out);
  }

  // The answer to a part of a sample; where steps are split, it is given once the step has ended.
  template <typename Learner>
  Status report(uint32_t token, Writer& out, uint32_t& detail, const Learner& learner) const {
    protocol::Progress progress;
    if (const auto outcome = learner.progress(token, progress); !outcome.ok()) {
      detail = outcome.detail;
      return outcome.status;
    }
    protocol::SampleTaken answer;
    answer.token = progress.token;
    answer.state = progress.state;
    answer.fault = progress.fault;
    answer.step = progress.step;
    answer.ticks = progress.ticks;
    answer.position = position(progress.step, dtype_);
    answer.write(out);
    return Status::kOk;
  }

 private:
  enum class Waiting : uint8_t { kNothing, kSample, kInput, kOutputs };
  static constexpr uint32_t kTargetBytes = sizeof(float) * model::kTargetSize;

  static constexpr uint32_t input_bytes(protocol::Dtype dtype) {
    return static_cast<uint32_t>(protocol::width(dtype)) * model::kInputSize;
  }
  // The bytes of all samples before step `step` and of what waits.
  uint32_t position(uint32_t step, protocol::Dtype dtype) const {
    return step * (kTargetBytes + input_bytes(dtype)) + (waiting_ == Waiting::kSample ? taken_ : 0);
  }

  template <typename Learner>
  Status take_sample(const protocol::SamplePart& part, uint32_t& detail, Learner& learner) {
    using protocol::State;
    if (!learner.has_token_ || learner.is_alone_ || source::on_device()) return Status::kBadState;
    if (part.token != learner.token_) {
      detail = learner.token_;
      return Status::kBadToken;
    }
    const State state = learner.state_;
    if (state != State::kTraining && state != State::kDone && state != State::kFailed) return Status::kBadState;
    if (waiting_ == Waiting::kSample && part.dtype != dtype_) return Status::kBadValue;
    if (kReadsBytes && part.dtype != protocol::Dtype::kU8) return Status::kBadValue;
    const uint32_t expected = position(learner.step_, part.dtype);
    if (state == State::kFailed || static_cast<int32_t>(part.position - expected) < 0) {
      if (waiting_ != Waiting::kSample) dtype_ = part.dtype;  // for the position in the answer
      return Status::kOk;
    }
    if (state != State::kTraining || part.position != expected) {
      detail = expected;
      return Status::kBadOffset;
    }
    const uint32_t taken = waiting_ == Waiting::kSample ? taken_ : 0;
    if (const Status status = take(part, kTargetBytes, taken, learner.arena_.values); status != Status::kOk) return status;
    waiting_ = Waiting::kSample;
    if (taken_ < kTargetBytes + input_bytes(dtype_)) return Status::kOk;
    drop();
    if (const Status status = check_targets(learner.arena_.values + model::kTarget); status != Status::kOk) return status;
    if (const Status status = make_inputs(learner.arena_.values); status != Status::kOk) return status;
    if constexpr (augmentation::kAugments) learner.augment(learner.step_);
    learner.step();
    return Status::kOk;
  }

  template <typename Learner>
  Status take_input(const protocol::InputPart& part, uint32_t& detail, Learner& learner, Writer& out) {
    if (!learner.may_predict()) return Status::kBadState;
    const bool is_same = (waiting_ == Waiting::kInput || waiting_ == Waiting::kOutputs) && part.number == number_;
    const uint32_t expected = is_same ? taken_ : 0;
    if (part.position > expected || (!is_same && part.position != 0)) {
      detail = expected;
      return Status::kBadOffset;
    }
    float* const arena = learner.arena_.values;
    if (!is_same || part.position == expected) {
      if (const Status status = take(part, 0, expected, arena); status != Status::kOk) return status;
      waiting_ = Waiting::kInput;
      number_ = part.number;
      if (taken_ == input_bytes(dtype_)) {
        if (const Status status = make_inputs(arena); status != Status::kOk) {
          drop();
          return status;
        }
        if constexpr (Learner::kAverages) learner.Averaging::run(learner.parameters_, arena);
        else model::Model<float>::forward(learner.parameters_, arena);
        waiting_ = Waiting::kOutputs;
      }
    }
    protocol::InputTaken answer;
    answer.position = taken_;
    answer.write_head(out);
    if (waiting_ == Waiting::kOutputs)
      for (uint32_t i = 0; i < model::kOutputSize; ++i) out.f32(arena[model::kOutput + i]);
    return Status::kOk;
  }

  // Copies a part to its place behind the `taken` bytes that have come; the first `targets` bytes are those of the targets. A
  // refused part changes nothing.
  template <typename Part>
  Status take(const Part& part, uint32_t targets, uint32_t taken, float* arena) {
    if (taken > 0 && (part.dtype != dtype_ || part.scale != scale_)) return Status::kBadValue;
    if (part.data_size == 0 || part.data_size > targets + input_bytes(part.dtype) - taken) return Status::kBadLength;
    if (kReadsBytes && part.dtype != protocol::Dtype::kU8) return Status::kBadValue;
    if (part.dtype == protocol::Dtype::kU8 && !is_finite(part.scale * 255.0f)) return Status::kNotFinite;
    dtype_ = part.dtype;
    scale_ = part.scale;
    const auto size = static_cast<uint32_t>(part.data_size);
    const uint32_t of_targets = taken < targets ? (size < targets - taken ? size : targets - taken) : 0;
    auto* const target = reinterpret_cast<uint8_t*>(arena + model::kTarget);
    std::memcpy(target + taken, part.data, of_targets);
    const uint32_t first = taken + of_targets - targets;  // of the inputs, where there are any
    if (size > of_targets) std::memcpy(bytes_of(arena) + first, part.data + of_targets, size - of_targets);
    taken_ = taken + size;
    return Status::kOk;
  }

  // Where the inputs wait. Where the first layer reads bytes: behind their scale. Otherwise floats in their place, bytes at its
  // end, where each float can be written over bytes that were read.
  uint8_t* bytes_of(float* arena) const {
    if constexpr (kReadsBytes) return reinterpret_cast<uint8_t*>(arena + model::kInput + 1);
    return reinterpret_cast<uint8_t*>(arena + model::kInput) + sizeof(float) * model::kInputSize - input_bytes(dtype_);
  }

  // Makes what waits the model's inputs.
  Status make_inputs(float* arena) const {
    float* const inputs = arena + model::kInput;
    if constexpr (kReadsBytes) {
      *inputs = scale_;
      return Status::kOk;
    }
    if (dtype_ == protocol::Dtype::kF32) return check_inputs(inputs);
    const uint8_t* byte = bytes_of(arena);
    for (uint32_t i = 0; i < model::kInputSize; ++i) inputs[i] = static_cast<float>(*byte++) * scale_;
    if constexpr (model::kLargestInput > 0) return check_inputs(inputs);
    return Status::kOk;
  }

  // All of it begins as zeros: a single other value would put the whole learner into flash.
  Waiting waiting_ = Waiting::kNothing;
  protocol::Dtype dtype_ = protocol::Dtype::kF32;
  uint32_t taken_ = 0;   // bytes that have come
  uint32_t number_ = 0;  // of the input
  float scale_ = 0.0f;
};

}  // namespace tmf
