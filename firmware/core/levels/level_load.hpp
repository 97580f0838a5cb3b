// Weights that arrive as levels: LoadLevels brings them as Load does, in fewer bits, and such firmware refuses Load.
//
// A message has the scale of each tensor whose first weight is in it, in the order of the tensors, and then the levels of its weights:
// packed, LSB first and padded with zeros to a byte, or in a range code. It is read once before it changes anything.
//
// The generated level_load.hpp includes this file after level_facts.hpp, which has the message.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "levels/level_code.hpp"
#include "math.hpp"
#include "protocol.hpp"

namespace tmf {

template <uint32_t kBits, bool kInRange>
class LoadOfLevels {
 public:
  static constexpr bool kTakesLevels = true;
  static constexpr bool kTakesRange = kInRange;
  static constexpr uint32_t kLevelBits = kBits;
  using Message = protocol::LoadLevels;
  using Code = LevelCode<kBits>;
  using Encoder = RangeEncoder;

  // Answers LoadLevels. `owner` is the learner, whose cycle the first message begins. `detail` becomes that of a refusal.
  template <typename Owner>
  static Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail, Owner& owner) {
    if (type != protocol::LoadLevels::kType) return Status::kUnknownType;
    protocol::LoadLevels request;
    if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
    if (!owner.has_session_) return Status::kBadState;
    const auto outcome = owner.take_load(
        request, request.count, [&] { return read(request, owner.received_, nullptr); },
        [&] { (void)read(request, owner.received_, owner.parameters_); });
    detail = outcome.detail;
    if (!outcome.ok()) return outcome.status;
    protocol::LevelsLoaded answer;
    answer.next_offset = owner.next_offset();
    answer.write(out);
    return Status::kOk;
  }

 private:
  // Reads the weights of a message, and writes them to `received` and to `weights` unless these are nullptr. Fails with
  // kBadLength for bytes that hold no levels, with kBadValue for invalid levels or another number of them, and with
  // kNotFinite.
  template <typename Downlink>
  static Status read(const protocol::LoadLevels& request, Downlink& received, float* weights) {
    constexpr int32_t kLargest = LevelCode<kBits>::kLargest;
    if (!kTakesRange && request.coding == protocol::LevelCoding::kRange) return Status::kBadValue;
    const uint32_t end = request.offset + request.count;
    uint32_t begun = 0;  // tensors
    for (uint32_t tensor = 0; tensor < Downlink::kTensors; ++tensor)
      begun += Downlink::first(tensor) >= request.offset && Downlink::first(tensor) < end;
    Reader scales(request.data, request.data_size);
    if (request.data_size < sizeof(float) * begun) return Status::kBadLength;
    LevelReader<kBits, kTakesRange> levels(request.coding, request.data + sizeof(float) * begun, request.data_size - sizeof(float) * begun);
    uint32_t tensor = Downlink::tensor_of(request.offset);
    float scale = received.scale(tensor);
    for (uint32_t i = request.offset; i < end; ++i) {
      if (i == Downlink::end(tensor)) ++tensor;
      if (i == Downlink::first(tensor)) {
        scale = scales.f32();
        if (!is_finite(scale * static_cast<float>(kLargest))) return Status::kNotFinite;
        if (weights != nullptr) received.set_scale(tensor, scale);
      }
      const int32_t level = levels.next();
      if (level < -kLargest) return Status::kBadValue;
      if (weights == nullptr) continue;
      received.set_level(i, static_cast<int8_t>(level));
      weights[i] = static_cast<float>(level) * scale;
    }
    return levels.is_used_up() ? Status::kOk : Status::kBadValue;
  }
};

}  // namespace tmf
