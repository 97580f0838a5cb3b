// What it takes to bring weights as levels to a board: how many messages, and their bytes on the line. The same messages as those of
// the host's level_load.py.
#pragma once

#include <cstdint>
#include <cstring>

#include <level_load.hpp>  // generated for firmware that gets its weights as levels

#include "coded/bit_string.hpp"
#include "frame.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "update.hpp"

namespace tmf::sim {

// `levels` has all weights, `scales` one number for each tensor.
template <typename Load, size_t kWindow, size_t kMacBytes>
class LevelBytes {
 public:
  static void measure(const int8_t* levels, const float* scales, uint32_t& messages, uint32_t& bytes) {
    for (uint32_t offset = 0, count; offset < model::kGlobalCount; offset += count) {
      bytes += message(levels, scales, offset, count);
      ++messages;
    }
  }

 private:
  using Message = typename Load::Message;
  using Code = typename Load::Code;
  using Encoder = typename Load::Encoder;
  using Coding = decltype(Message::coding);
  static constexpr size_t kHead = protocol::kFrameHeaderBytes + Message::kFixedSize;
  static constexpr size_t kCapacity = payload_capacity(kWindow) - kMacBytes - Message::kFixedSize;
  static constexpr uint32_t kMostWeights = 0xFFFF;

  // Bytes of the message that begins with weight `offset`, which has `count` weights.
  static uint32_t message(const int8_t* levels, const float* scales, uint32_t offset, uint32_t& count) {
    Encoder counter(nullptr);
    Code code;
    size_t heads = 0, size = 0, packed_size = 0;
    uint32_t ranged = 0, packed = 0;
    bool is_full = !Load::kTakesRange, is_packed_full = false;
    for (uint32_t i = 0; i < kMostWeights && offset + i < model::kGlobalCount && !(is_full && is_packed_full); ++i) {
      if (begins(offset + i)) heads += sizeof(float);
      if (!is_full) {
        code.code(counter, levels[offset + i]);
        is_full = heads + counter.size() > kCapacity;
        if (!is_full) ranged = i + 1, size = heads + counter.size();
      }
      const size_t more = heads + (Load::kLevelBits * (i + 1) + 7) / 8;
      is_packed_full = is_packed_full || more > kCapacity;
      if (!is_packed_full) packed = i + 1, packed_size = more;
    }
    const bool is_packed = packed > ranged || (packed == ranged && packed_size <= size);
    count = is_packed ? packed : ranged;
    return written(levels, scales, offset, count, is_packed, is_packed ? packed_size : size);
  }

  static uint32_t written(const int8_t* levels, const float* scales, uint32_t offset, uint32_t count, bool is_packed, size_t size) {
    uint8_t frame[kWindow + kHead + 1];
    Message header;
    header.token = 1;
    header.offset = offset;
    header.count = static_cast<uint16_t>(count);
    header.coding = is_packed ? Coding::kPacked : Coding::kRange;
    Writer out(frame + protocol::kFrameHeaderBytes, sizeof frame - protocol::kFrameHeaderBytes);
    header.write_head(out);
    uint32_t tensor = 0;
    for (uint32_t i = 0; i < offset + count; ++i) {
      if (!begins(i)) continue;
      if (i >= offset) out.f32(scales[tensor]);
      ++tensor;
    }
    uint8_t* const to = frame + protocol::kFrameHeaderBytes + out.size();
    Encoder ranged(to);
    BitString<1> bits(to);
    Code code;
    for (uint32_t i = offset; i < offset + count; ++i) {
      if (is_packed) bits.put(static_cast<uint32_t>(levels[i]) & ((1u << Load::kLevelBits) - 1), Load::kLevelBits);
      else code.code(ranged, levels[i]);
    }
    if (is_packed) bits.close();
    else ranged.close();
    frame[0] = frame[1] = 1;  // any type and sequence but 0: only the size counts
    std::memset(frame + kHead + size, 1, kMacBytes);
    return wire_bytes(frame, kHead + size + kMacBytes);
  }

  // Whether a tensor begins with weight i.
  static bool begins(uint32_t i) {
    if (i == 0) return true;
    for (const uint32_t end : model::kGlobalEnds)
      if (i == end) return true;
    return false;
  }
};

// Adds the messages and bytes of weights that travel as levels; nothing for others.
template <typename Load, size_t kWindow, size_t kMacBytes>
void measure_levels(const uint8_t* levels, const float* scales, uint32_t* sent) {
  if constexpr (Load::kTakesLevels)
    LevelBytes<Load, kWindow, kMacBytes>::measure(reinterpret_cast<const int8_t*>(levels), scales, sent[0], sent[1]);
}

}  // namespace tmf::sim
