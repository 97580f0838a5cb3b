// Flash memory in RAM, with the rules of real flash, whose power can be cut in the middle of any program or erase.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "protocol.hpp"

namespace tmf::unit {

// How far an operation gets when the power is cut.
enum class Cut : uint8_t { kBefore, kHalfway, kAfter };

// The memory, shared by all copies of a Flash that point to it. Breaking a rule of flash sets `misused`.
template <uint32_t kPages_, uint32_t kPageBytes_ = 256, uint32_t kWriteBytes_ = 4>
struct FlashMemory {
  static constexpr uint32_t kPages = kPages_;
  static constexpr uint32_t kPageBytes = kPageBytes_;
  static constexpr uint32_t kWriteBytes = kWriteBytes_;

  uint8_t bytes[kPages * kPageBytes];
  uint32_t erases[kPages];
  uint32_t operations;  // programs and erases so far
  uint32_t cut_at;      // the number of the operation during which the power is cut
  Cut cut;
  bool has_power;
  bool misused;
  uint32_t worn_after;  // erases after which a page no longer becomes blank
  uint32_t random;

  void make_blank() {
    std::memset(bytes, 0xFF, sizeof bytes);
    std::memset(erases, 0, sizeof erases);
    operations = 0;
    cut_at = UINT32_MAX;
    cut = Cut::kBefore;
    has_power = true;
    misused = false;
    worn_after = UINT32_MAX;
    random = 1;
  }

  // Power is back; no further cut.
  void restore_power() {
    has_power = true;
    cut_at = UINT32_MAX;
  }

  uint8_t noise() {
    random = random * 1664525u + 1013904223u;
    return static_cast<uint8_t>(random >> 24);
  }

  // Whether the next operation is carried out: fully, or, at the cut, as far as `halfway` says.
  bool works(bool& halfway) {
    halfway = false;
    if (!has_power) return false;
    if (operations++ != cut_at) return true;
    has_power = false;
    halfway = cut == Cut::kHalfway;
    return cut != Cut::kBefore;
  }
};

// The `Flash` of a store::Log.
template <typename Memory>
struct SimulatedFlash {
  static constexpr uint32_t kPageBytes = Memory::kPageBytes;
  static constexpr uint32_t kWriteBytes = Memory::kWriteBytes;

  Memory* memory = nullptr;

  Status read(uint32_t at, void* to, size_t size) {
    if (size > sizeof memory->bytes || at > sizeof memory->bytes - size) {
      memory->misused = true;
      return Status::kBadOffset;
    }
    std::memcpy(to, memory->bytes + at, size);
    return Status::kOk;
  }

  // Halfway, some units are written, the next one has some of its bits, and the others none.
  Status program(uint32_t at, const void* from, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(from);
    if (at % kWriteBytes != 0 || size % kWriteBytes != 0 || size == 0 || size > sizeof memory->bytes - at) {
      memory->misused = true;
      return Status::kBadOffset;
    }
    for (size_t i = 0; i < size; ++i)
      if (memory->bytes[at + i] != 0xFF && !is_worn(at + i)) memory->misused = true;  // written twice since the erase
    bool halfway;
    if (!memory->works(halfway)) return Status::kBadState;
    size_t whole = halfway ? memory->noise() % (size / kWriteBytes) * kWriteBytes : size;
    for (size_t i = 0; i < whole; ++i) memory->bytes[at + i] &= bytes[i];
    for (size_t i = whole; halfway && i < whole + kWriteBytes; ++i)
      memory->bytes[at + i] &= static_cast<uint8_t>(bytes[i] | memory->noise());
    return memory->has_power ? Status::kOk : Status::kBadState;
  }

  // Halfway, the page holds anything.
  Status erase(uint32_t page) {
    if (page >= Memory::kPages) {
      memory->misused = true;
      return Status::kBadOffset;
    }
    bool halfway;
    if (!memory->works(halfway)) return Status::kBadState;
    uint8_t* const start = memory->bytes + page * kPageBytes;
    const bool worn = ++memory->erases[page] > memory->worn_after;
    for (uint32_t i = 0; i < kPageBytes; ++i) start[i] = halfway ? start[i] | memory->noise() : 0xFF;
    if (worn) start[kPageBytes / 2] = 0xFE;
    return memory->has_power ? Status::kOk : Status::kBadState;
  }

  bool is_worn(uint32_t at) const { return memory->erases[at / kPageBytes] > memory->worn_after; }
};

}  // namespace tmf::unit
