// The front end for a microphone: makes a spectrogram of every sound, which is a sample. It has the functions of sensor/windows.hpp.
#pragma once

#include <cstdint>

#include "sensor/sensor.hpp"
#include "sound/log_mel.hpp"

namespace tmf::sound {

// A number as a 16-bit sample: the nearest one that is not beyond the range. `x` is finite.
inline int16_t to_sample(float x) {
  if (x >= 32767.0f) return INT16_MAX;
  if (x <= -32768.0f) return INT16_MIN;
  return static_cast<int16_t>(x + kRounder - kRounder);
}

// A row is one sample of the microphone. The label of a sound is the last one that was given since the sound before it.
template <typename Facts>
class FrontEnd {
 public:
  static constexpr int32_t kSize = Facts::kBands * Facts::kFrames;  // numbers of a spectrogram
  using RowNumber = int16_t;

  static RowNumber kept(float number) { return to_sample(number); }

  // The recording ends; rows that follow do not continue it. Returns as `add`.
  bool end() { return completes(log_mel_.finish()); }

  // Adds a row; its label is kNoLabel or a label. Returns whether a sound is complete, which stays until the next row.
  bool add(const float* row, int label) {
    if (label != sensor::kNoLabel) label_plus_1_ = label + 1;
    return completes(log_mel_.add(to_sample(row[0])));
  }

  // Writes the complete sound's spectrogram, from 0 to 1 as the host has it.
  void write(float* sample) const { log_mel_.write(sample, Facts::kOne); }

  // The label of the complete sound, or kNoLabel.
  int label() const { return complete_plus_1_ - 1; }

 private:
  bool completes(bool complete) {
    if (complete) {
      complete_plus_1_ = label_plus_1_;
      label_plus_1_ = 0;
    }
    return complete;
  }

  // All zero at first.
  LogMel<Facts> log_mel_;
  int label_plus_1_ = 0;  // since the last sound; 0: none
  int complete_plus_1_ = 0;
};

}  // namespace tmf::sound
