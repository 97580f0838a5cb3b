// The global weights as they came over the wire, kept in the downlink's own width: what the delta is taken from, to the bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "half.hpp"
#include "math.hpp"
#include "protocol.hpp"

namespace tmf {

namespace wire {

// One weight on the wire: how it is kept, and the number that it stands for.
template <protocol::Dtype kDtype>
struct Weight;

template <>
struct Weight<protocol::Dtype::kF32> {
  using Kept = float;
  static Kept read(Reader& in) { return in.f32(); }
  static float value(Kept kept) { return kept; }
};

template <>
struct Weight<protocol::Dtype::kF16> {
  using Kept = uint16_t;
  static Kept read(Reader& in) { return in.u16(); }
  static float value(Kept kept) { return from_f16(kept); }
};

}  // namespace wire

// Weights of one dtype, loaded in order; `kEnds` are where the tensors that they make up end, the last is their number.
template <protocol::Dtype kDtype, const auto& kEnds>
class Received {
  using Weight = wire::Weight<kDtype>;
  using Kept = typename Weight::Kept;

 public:
  static_assert(sizeof(Kept) == protocol::width(kDtype), "kept as it travels");

  // Whether a Load of whole weights, all within range, may be taken. kNotFinite.
  Status check(const protocol::Load& message) const {
    Reader in(message.data, message.data_size);
    while (in.left() > 0)
      if (!is_finite(Weight::value(Weight::read(in)))) return Status::kNotFinite;
    return Status::kOk;
  }

  // Keeps what `check` has let pass, and writes the weights that it stands for to their places in `weights`.
  void take(const protocol::Load& message, float* weights) {
    Reader in(message.data, message.data_size);
    for (uint32_t i = message.offset; in.left() > 0; ++i) {
      kept_[i] = Weight::read(in);
      weights[i] = Weight::value(kept_[i]);
    }
  }

  float operator[](uint32_t i) const { return Weight::value(kept_[i]); }

 private:
  Kept kept_[kEnds[sizeof kEnds / sizeof kEnds[0] - 1]] = {};
};

// int8 with one scale per tensor: all Loads of a tensor bring the same, and none crosses its end.
template <const auto& kEnds>
class Received<protocol::Dtype::kI8, kEnds> {
 public:
  // As above; also kBadLength for a Load across a tensor's end, and kBadValue for another scale than the tensor's first.
  Status check(const protocol::Load& message) const {
    const uint32_t tensor = tensor_of(message.offset);
    if (message.data_size > kEnds[tensor] - message.offset) return Status::kBadLength;
    const bool begins = message.offset == (tensor == 0 ? 0 : kEnds[tensor - 1]);
    if (!begins && bits_of<uint32_t>(message.scale) != bits_of<uint32_t>(scales_[tensor])) return Status::kBadValue;
    for (size_t i = 0; i < message.data_size; ++i)
      if (!is_finite(value(static_cast<int8_t>(message.data[i]), message.scale))) return Status::kNotFinite;
    return Status::kOk;
  }

  void take(const protocol::Load& message, float* weights) {
    scales_[tensor_of(message.offset)] = message.scale;
    for (size_t i = 0; i < message.data_size; ++i) {
      const int8_t level = static_cast<int8_t>(message.data[i]);
      levels_[message.offset + i] = level;
      weights[message.offset + i] = value(level, message.scale);
    }
  }

  float operator[](uint32_t i) const { return value(levels_[i], scales_[tensor_of(i)]); }

 private:
  static constexpr size_t kTensors = sizeof kEnds / sizeof kEnds[0];

  static float value(int8_t level, float scale) { return static_cast<float>(level) * scale; }

  static uint32_t tensor_of(uint32_t i) {
    uint32_t tensor = 0;
    while (i >= kEnds[tensor]) ++tensor;
    return tensor;
  }

  float scales_[kTensors] = {};
  int8_t levels_[kEnds[kTensors - 1]] = {};
};

}  // namespace tmf
