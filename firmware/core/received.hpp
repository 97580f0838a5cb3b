// The global weights as received, stored in the dtype of the downlink. The delta is the change from exactly these values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "half.hpp"
#include "math.hpp"
#include "protocol.hpp"

namespace tmf {

namespace wire {

// How one weight of a dtype is read and stored, and the number that it stands for.
template <protocol::Dtype kDtype>
struct Weight;

template <>
struct Weight<protocol::Dtype::kF32> {
  using Stored = float;
  static Stored read(Reader& in) { return in.f32(); }
  static float value(Stored stored) { return stored; }
};

template <>
struct Weight<protocol::Dtype::kF16> {
  using Stored = uint16_t;
  static Stored read(Reader& in) { return in.u16(); }
  static float value(Stored stored) { return from_f16(stored); }
};

}  // namespace wire

// The received global weights, of one dtype. `kEnds` holds the index after the last weight of each tensor; the last of them is
// the number of weights.
template <protocol::Dtype kDtype, const auto& kEnds>
class Received {
  using Weight = wire::Weight<kDtype>;
  using Stored = typename Weight::Stored;

 public:
  static_assert(sizeof(Stored) == protocol::width(kDtype), "stored as received");

  // Checks the values of a Load whose weights are complete and lie within the weight vector. Fails with kNotFinite.
  Status check(const protocol::Load& message) const {
    Reader in(message.data, message.data_size);
    while (in.left() > 0)
      if (!is_finite(Weight::value(Weight::read(in)))) return Status::kNotFinite;
    return Status::kOk;
  }

  // Stores the weights of a Load that `check` has accepted, and writes them to `weights` as float.
  void store(const protocol::Load& message, float* weights) {
    Reader in(message.data, message.data_size);
    for (uint32_t i = message.offset; in.left() > 0; ++i) {
      stored_[i] = Weight::read(in);
      weights[i] = Weight::value(stored_[i]);
    }
  }

  float operator[](uint32_t i) const { return Weight::value(stored_[i]); }

  // For a download by difference, the weights as cells of bits, one cell each.
  static constexpr uint32_t kCells = kEnds[sizeof kEnds / sizeof kEnds[0] - 1];
  static constexpr uint32_t kCellBits = 8 * sizeof(Stored);
  static constexpr bool is_scale(uint32_t) { return false; }
  uint32_t cell(uint32_t i) const {
    if constexpr (kDtype == protocol::Dtype::kF32) return bits_of<uint32_t>(stored_[i]);
    else return stored_[i];
  }
  void set_cell(uint32_t i, uint32_t bits) {
    if constexpr (kDtype == protocol::Dtype::kF32) stored_[i] = bits_of<float>(bits);
    else stored_[i] = static_cast<Stored>(bits);
  }
  // The exponent field of a weight's bits.
  static constexpr uint32_t exponent(uint32_t bits) {
    return kDtype == protocol::Dtype::kF32 ? bits >> 23 & 0xFF : bits >> 10 & 0x1F;
  }
  // Calls each(bits) for every cell.
  template <typename Each>
  void each_cell(Each each) const {
    for (uint32_t i = 0; i < kCells; ++i) each(cell(i));
  }
  void copy_to(float* weights) const {
    for (uint32_t i = 0; i < kCells; ++i) weights[i] = (*this)[i];
  }

 private:
  Stored stored_[kEnds[sizeof kEnds / sizeof kEnds[0] - 1]] = {};
};

// int8 weights with one scale per tensor. All Loads of a tensor carry the same scale, and no Load crosses a tensor's end.
template <const auto& kEnds>
class Received<protocol::Dtype::kI8, kEnds> {
 public:
  // Fails with kBadLength for a Load across a tensor's end, with kBadValue for a scale other than in the tensor's first Load,
  // and with kNotFinite.
  Status check(const protocol::Load& message) const {
    const uint32_t tensor = tensor_of(message.offset);
    if (message.data_size > kEnds[tensor] - message.offset) return Status::kBadLength;
    const bool begins = message.offset == (tensor == 0 ? 0 : kEnds[tensor - 1]);
    if (!begins && bits_of<uint32_t>(message.scale) != bits_of<uint32_t>(scales_[tensor])) return Status::kBadValue;
    for (size_t i = 0; i < message.data_size; ++i)
      if (!is_finite(value(static_cast<int8_t>(message.data[i]), message.scale))) return Status::kNotFinite;
    return Status::kOk;
  }

  void store(const protocol::Load& message, float* weights) {
    scales_[tensor_of(message.offset)] = message.scale;
    for (size_t i = 0; i < message.data_size; ++i) {
      const int8_t level = static_cast<int8_t>(message.data[i]);
      levels_[message.offset + i] = level;
      weights[message.offset + i] = value(level, message.scale);
    }
  }

  float operator[](uint32_t i) const { return value(levels_[i], scales_[tensor_of(i)]); }

  // For weights that arrive as levels.
  static constexpr uint32_t kTensors = sizeof kEnds / sizeof kEnds[0];
  static uint32_t tensor_of(uint32_t i) {
    uint32_t tensor = 0;
    while (i >= kEnds[tensor]) ++tensor;
    return tensor;
  }
  static uint32_t first(uint32_t tensor) { return tensor == 0 ? 0 : kEnds[tensor - 1]; }
  static uint32_t end(uint32_t tensor) { return kEnds[tensor]; }
  float scale(uint32_t tensor) const { return scales_[tensor]; }
  void set_scale(uint32_t tensor, float scale) { scales_[tensor] = scale; }
  void set_level(uint32_t i, int8_t level) { levels_[i] = level; }

  // For a download by difference, scales and levels as cells of bits: each tensor begins with its scale.
  static constexpr uint32_t kCells = kEnds[sizeof kEnds / sizeof kEnds[0] - 1] + sizeof kEnds / sizeof kEnds[0];
  static constexpr uint32_t kCellBits = 8;
  static constexpr uint32_t exponent(uint32_t) { return 0; }
  static bool is_scale(uint32_t i) {
    const uint32_t tensor = tensor_of_cell(i);
    return i == first_cell(tensor);
  }
  uint32_t cell(uint32_t i) const {
    const uint32_t tensor = tensor_of_cell(i);
    return i == first_cell(tensor) ? bits_of<uint32_t>(scales_[tensor]) : static_cast<uint8_t>(levels_[i - tensor - 1]);
  }
  void set_cell(uint32_t i, uint32_t bits) {
    const uint32_t tensor = tensor_of_cell(i);
    if (i == first_cell(tensor)) scales_[tensor] = bits_of<float>(bits);
    else levels_[i - tensor - 1] = static_cast<int8_t>(bits);
  }
  template <typename Each>
  void each_cell(Each each) const {
    for (uint32_t tensor = 0, i = 0; tensor < kTensors; ++tensor) {
      each(bits_of<uint32_t>(scales_[tensor]));
      for (; i < kEnds[tensor]; ++i) each(static_cast<uint8_t>(levels_[i]));
    }
  }
  void copy_to(float* weights) const {
    for (uint32_t tensor = 0, i = 0; tensor < kTensors; ++tensor)
      for (; i < kEnds[tensor]; ++i) weights[i] = value(levels_[i], scales_[tensor]);
  }

 private:
  static uint32_t first_cell(uint32_t tensor) { return (tensor == 0 ? 0 : kEnds[tensor - 1]) + tensor; }

  static uint32_t tensor_of_cell(uint32_t i) {
    uint32_t tensor = 0;
    while (i > kEnds[tensor] + tensor) ++tensor;
    return tensor;
  }

  static float value(int8_t level, float scale) { return static_cast<float>(level) * scale; }

  float scales_[kTensors] = {};
  int8_t levels_[kEnds[kTensors - 1]] = {};
};

}  // namespace tmf
