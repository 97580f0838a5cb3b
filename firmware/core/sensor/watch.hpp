// Watches the rows of a sensor: whether they come, are finite, change, and come at the rate that the experiment names.
#pragma once

#include <cstdint>

#include "board.hpp"
#include "math.hpp"
#include "protocol.hpp"
#include "sensor/sensor.hpp"

namespace tmf::sensor {

// The state of a sensor. kStuck after kStuckRows equal rows, kRateOff when the rate of the last kRateRows rows is off by more
// than a tenth. A recording has no rate: it is read as fast as the device takes it.
class Watch {
  using State = protocol::SensorState;

 public:
  void miss() { missing_ = true; }

  // Called when there is no new row: a sensor whose rate is known is missing when it has been silent for kSilentTicks.
  void wait(uint32_t now) {
    if constexpr (kMeasures) {
      if (!has_waited_) quiet_since_ = now;
      has_waited_ = true;
      if (now - quiet_since_ > kSilentTicks) missing_ = true;
    }
  }

  // Whether a second has passed since the first call.
  bool is_second_over(uint32_t now) {
    if (!has_waited_) quiet_since_ = now;
    has_waited_ = true;
    return now - quiet_since_ >= board::kTicksPerSecond;
  }

  void end() { ended_ = true; }
  void refuse_label() {
    ++refused_labels_;
    label_refused_ = true;
  }

  // Sees the next row. Returns whether it is finite.
  bool see(const float* row, uint32_t now) {
    missing_ = false;
    has_waited_ = false;
    label_refused_ = false;
    bool finite = true;
    for (int32_t i = 0; i < kChannels; ++i) finite = finite && is_finite(row[i]);
    not_finite_ = !finite;
    if (!finite) return false;
    bool same = rows_ > 0;
    for (int32_t i = 0; i < kChannels; ++i) {
      same = same && row[i] == last_[i];
      last_[i] = row[i];
    }
    equal_ = same ? equal_ + 1 : 1;
    ++rows_;
    measure(now);
    return true;
  }

  State state() const {
    if (ended_) return State::kEnded;
    if (missing_) return State::kMissing;
    if (not_finite_) return State::kNotFinite;
    if (rows_ == 0) return State::kWaiting;
    if (equal_ >= kStuckRows) return State::kStuck;
    if (label_refused_) return State::kBadLabel;
    if (rate_ > 0.0f && (rate_ < 0.9f * kRate || rate_ > 1.1f * kRate)) return State::kRateOff;
    return State::kOk;
  }

  uint32_t rows() const { return rows_; }
  uint32_t refused_labels() const { return refused_labels_; }
  float rate() const { return rate_; }  // rows per second; 0: not measured

 private:
  // The counter wraps; a rate is measured where kRateRows rows take less than half of its range.
  static constexpr bool kMeasures =
      !kReplayed && kRate > 0.0f && static_cast<float>(kRateRows) / kRate * static_cast<float>(board::kTicksPerSecond) < 2.0e9f;

  static constexpr float kSilentSeconds = kRate >= 10.0f || !kMeasures ? 1.0f : 10.0f / kRate;  // at least that of ten rows
  static constexpr uint32_t kSilentTicks = static_cast<uint32_t>(kSilentSeconds * static_cast<float>(board::kTicksPerSecond));

  void measure(uint32_t now) {
    if constexpr (kMeasures) {
      if (timed_ == 0) {
        since_ = now;
      } else if (timed_ == kRateRows) {
        const float ticks = now == since_ ? 1.0f : static_cast<float>(now - since_);
        rate_ = static_cast<float>(kRateRows) * static_cast<float>(board::kTicksPerSecond) / ticks;
        since_ = now;
        timed_ = 0;
      }
      ++timed_;
    }
  }

  // All zero at first.
  float last_[kChannels] = {};
  float rate_ = 0.0f;
  uint32_t rows_ = 0;
  uint32_t equal_ = 0;  // rows like the last one, with it
  uint32_t refused_labels_ = 0;
  uint32_t since_ = 0;        // ticks
  uint32_t quiet_since_ = 0;  // ticks
  int32_t timed_ = 0;   // rows since then
  bool missing_ = false;
  bool has_waited_ = false;  // since the last row
  bool not_finite_ = false;
  bool label_refused_ = false;
  bool ended_ = false;
};

}  // namespace tmf::sensor
