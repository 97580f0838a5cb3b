// The rows that the host has not fetched yet while it records: a ring that drops its oldest row when it is full.
#pragma once

#include <cstdint>

#include "bytes.hpp"
#include "sensor/sensor.hpp"

namespace tmf::sensor {

// Rows are numbered from 0 on, also those that were dropped, so the host sees where some are missing.
class KeptRows {
 public:
  static constexpr uint32_t kRowBytes = 2 + sizeof(RowNumber) * kChannels;  // on the wire

  void clear() {
    end_ = 0;
    first_ = 0;
    dropped_ = 0;
  }

  bool has_room() const { return end_ - first_ < kKeptRows; }

  void add(const float* row, int label, bool after_gap) {
    if (!has_room()) {
      ++first_;
      ++dropped_;
    }
    const uint32_t at = end_++ % kKeptRows;
    marks_[at] = static_cast<uint16_t>((after_gap ? kGap : 0) | (label + 1));
    for (int32_t i = 0; i < kChannels; ++i) numbers_[at * kChannels + i] = FrontEnd::kept(row[i]);
  }

  // Forgets the rows before number `row`, which the host has.
  void release(uint32_t row) {
    if (row > first_) first_ = row;
  }

  // Writes as many rows as fit, from the first one on: u16 mark, then the numbers. Bit 15 of the mark: rows before this one are
  // missing; the rest is 0 for a row without a label, else 1 + label.
  void write(Writer& out) const {
    for (uint32_t row = first_; row < end_ && out.left() >= kRowBytes; ++row) {
      const uint32_t at = row % kKeptRows;
      out.u16(marks_[at]);
      for (int32_t i = 0; i < kChannels; ++i) {
        if constexpr (sizeof(RowNumber) == 2) {
          out.u16(static_cast<uint16_t>(numbers_[at * kChannels + i]));
        } else {
          out.f32(numbers_[at * kChannels + i]);
        }
      }
    }
  }

  uint32_t first() const { return first_; }
  uint32_t end() const { return end_; }
  uint32_t dropped() const { return dropped_; }

 private:
  static constexpr int kGap = 0x8000;

  RowNumber numbers_[kKeptRows * kChannels] = {};
  uint16_t marks_[kKeptRows] = {};
  uint32_t first_ = 0;
  uint32_t end_ = 0;
  uint32_t dropped_ = 0;
};

}  // namespace tmf::sensor
