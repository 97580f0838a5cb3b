// The front end for rows over time: cuts them into windows, each of which is a sample, as the host does for task "folder"
// (host/tinymetafed/learn/tasks/own_data/windows.py). A front end has this class's functions.
#pragma once

#include <cstdint>

#include "sensor/sensor.hpp"

namespace tmf::sensor {

// `kRows` rows of `kNumbers` are a window; the next one begins `kStep` rows later. `kMajority`: a window has the label of most of
// its rows; otherwise it lies within rows of one label, and windows begin anew with each other label. Rows without a label
// belong to any label; a window of such rows alone has none. `kLabels`: labels are below this.
template <int32_t kNumbers, int32_t kRows, int32_t kStep, bool kMajority, int32_t kLabels>
class Windows {
 public:
  static constexpr int32_t kSize = kRows * kNumbers;  // numbers of a sample
  using RowNumber = float;  // as numbers of rows are kept and sent

  static RowNumber kept(float number) { return number; }

  // The recording ends; rows that follow do not continue it. Returns whether a sample is complete by that: never.
  bool end() {
    restart();
    return false;
  }

  // Adds a row; its label is kNoLabel or below kLabels. Returns whether a window is complete, which stays until the next row.
  bool add(const float* row, int label) {
    if (started_ == 0) {  // so that a static object needs no constructor
      started_ = 1;
      restart();
    }
    if constexpr (kMajority) {
      counts_.replace(next_, label);
    } else {
      follow(label);
    }
    for (int32_t i = 0; i < kNumbers; ++i) rows_[next_ * kNumbers + i] = row[i];
    next_ = next_ + 1 == kRows ? 0 : next_ + 1;
    if (--until_complete_ > 0) return false;
    until_complete_ = kStep;
    return true;
  }

  // Writes the complete window: the oldest row first.
  void write(float* sample) const {
    const int32_t oldest = next_ * kNumbers;
    for (int32_t i = oldest; i < kSize; ++i) *sample++ = rows_[i];
    for (int32_t i = 0; i < oldest; ++i) *sample++ = rows_[i];
  }

  // The label of the complete window, or kNoLabel.
  int label() const {
    if constexpr (kMajority) return counts_.most();
    return label_;
  }

 private:
  void restart() {
    until_complete_ = kRows;
    label_ = kNoLabel;
    if constexpr (kMajority) counts_ = Counts();
  }

  // For majorities: the label of each row in the window, and how many rows have each label.
  struct Counts {
    int16_t of_row[kMajority ? kRows : 1] = {};  // label + 1
    uint16_t rows[kMajority ? kLabels : 1] = {};

    void replace(int32_t at, int label) {
      if (of_row[at] > 0) --rows[of_row[at] - 1];
      of_row[at] = static_cast<int16_t>(label + 1);
      if (label != kNoLabel) ++rows[label];
    }

    int most() const {
      int found = kNoLabel;
      for (int32_t i = 0; i < kLabels; ++i)
        if (rows[i] > (found == kNoLabel ? 0 : rows[found])) found = i;  // of equals the lowest
      return found;
    }
  };

  // For windows of one label: begins anew with another label.
  void follow(int label) {
    if (label == kNoLabel) {
      if (label_ != kNoLabel && ++unlabelled_ >= kRows) label_ = kNoLabel;  // the last labelled row has left the window
      return;
    }
    if (label_ != kNoLabel && label_ != label) restart();
    label_ = label;
    unlabelled_ = 0;
  }

  // All zero at first.
  float rows_[kSize] = {};
  int32_t next_ = 0;            // place of the next row
  int32_t until_complete_ = 0;  // rows
  int label_ = 0;
  int32_t unlabelled_ = 0;      // rows since the last labelled one
  uint8_t started_ = 0;
  Counts counts_;
};

}  // namespace tmf::sensor
