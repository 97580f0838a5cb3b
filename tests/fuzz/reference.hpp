// Reference decoders for frames and deltas, written independently of the firmware's code, and the check of an invariant.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bytes.hpp"
#include "half.hpp"
#include "math.hpp"
#include "protocol.hpp"
#include "topk.hpp"

namespace fuzz {

using namespace tmf;
using namespace tmf::protocol;

using Bytes = std::vector<uint8_t>;

[[noreturn]] inline void violated(const char* invariant, const char* what) {
  std::fprintf(stderr, "%s violated: %s\n", invariant, what);
  std::abort();
}

inline void check(bool holds, const char* invariant, const char* what) {
  if (!holds) violated(invariant, what);
}

inline uint32_t reference_crc(const uint8_t* data, size_t size) {
  static const auto table = [] {
    std::vector<uint32_t> made(256);
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
      made[i] = crc;
    }
    return made;
  }();
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF];
  return ~crc;
}

inline Bytes framed(const Bytes& body) {
  Bytes checked = body;
  const uint32_t crc = reference_crc(body.data(), body.size());
  for (int i = 0; i < 4; ++i) checked.push_back(static_cast<uint8_t>(crc >> (8 * i)));
  Bytes wire;
  size_t code_at = 0;
  wire.push_back(1);
  for (size_t i = 0; i < checked.size(); ++i) {
    if (wire[code_at] == 0xFF) {
      code_at = wire.size();
      wire.push_back(1);
    }
    if (checked[i] == 0) {
      code_at = wire.size();
      wire.push_back(1);
    } else {
      wire.push_back(checked[i]);
      ++wire[code_at];
    }
  }
  wire.push_back(0);
  return wire;
}

// Decodes one frame, given without its final 0x00, to its body without CRC. Returns an empty body if the frame is not valid or
// its body with CRC is longer than `capacity`.
inline Bytes unframed(const uint8_t* wire, size_t size, size_t capacity) {
  Bytes body;
  for (size_t at = 0; at < size;) {
    const size_t code = wire[at];
    if (at + code > size) return {};
    body.insert(body.end(), wire + at + 1, wire + at + code);
    at += code;
    if (code != 0xFF && at < size) body.push_back(0);
  }
  if (body.size() > capacity || body.size() < 6) return {};
  const size_t content = body.size() - 4;
  uint32_t crc = 0;
  for (size_t i = 0; i < 4; ++i) crc |= static_cast<uint32_t>(body[content + i]) << (8 * i);
  if (crc != reference_crc(body.data(), content)) return {};
  body.resize(content);
  return body;
}

struct Entry {
  uint32_t index;
  uint32_t bits;  // of the value, as sent
};

inline std::vector<Entry> decoded(const Delta& delta, uint32_t n) {
  check(delta.check() == Status::kOk, "I9", "a chunk's dtype or coding does not exist, or it is empty");
  const size_t value_bytes = width(delta.dtype) * delta.count;
  check(delta.data_size >= value_bytes, "I9", "a chunk is shorter than its count says");
  const size_t index_bits = 8 * (delta.data_size - value_bytes);
  size_t at = 0;
  const auto bit = [&] {
    check(at < index_bits, "I9", "a chunk's index bits end too early");
    const uint32_t value = delta.data[at / 8] >> (at % 8) & 1;
    ++at;
    return value;
  };
  const auto bits = [&](uint32_t count) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; ++i) value |= bit() << i;
    return value;
  };
  std::vector<Entry> entries(delta.count);
  uint64_t lowest = delta.base;
  for (Entry& entry : entries) {
    uint32_t gap = 0;
    if (delta.coding == Coding::kRun) {
      gap = 0;
    } else if (delta.coding == Coding::kBitmap) {
      while (bit() == 0) ++gap;
    } else {
      const uint32_t parameter = static_cast<uint32_t>(delta.coding);
      uint32_t quotient = 0;
      while (quotient < kRiceEscape && bit() == 1) ++quotient;
      gap = quotient == kRiceEscape ? bits(kRiceRawBits) : quotient << parameter | bits(parameter);
    }
    check(lowest + gap < n, "I9", "an index is beyond the weights");
    entry.index = static_cast<uint32_t>(lowest + gap);
    lowest = entry.index + 1;
  }
  check((at + 7) / 8 * 8 == index_bits, "I9", "a chunk has surplus bytes");
  while (at < index_bits) check(bit() == 0, "I9", "padding is not zero");
  Reader in(delta.data + index_bits / 8, value_bytes);
  for (Entry& entry : entries)
    entry.bits = delta.dtype == Dtype::kF32 ? in.u32() : delta.dtype == Dtype::kF16 ? in.u16() : in.u8();
  return entries;
}

// Whether `bits` are those that must be sent for `value`.
inline bool sent_right(float value, const Delta& delta, uint32_t bits) {
  if (delta.dtype == Dtype::kF32) return bits_of<uint32_t>(value) == bits;
  if (delta.dtype == Dtype::kF16) {
    uint16_t half = 0;
    return to_f16(value, half) == Status::kOk && half == bits;
  }
  const float back = static_cast<float>(static_cast<int8_t>(bits)) * delta.scale;
  return magnitude_bits(value - back) <= magnitude_bits(0.501f * delta.scale + 0x1p-126f * 127);
}

}  // namespace fuzz
