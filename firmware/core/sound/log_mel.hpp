// Log-mel spectrograms of sounds, made sample by sample: what a microphone hears becomes the input of a model.
//
// A Hann window of the last samples is taken every hop. Its power in mel bands becomes a frame of logarithms, which are kept as
// int16, so that all that follows is integer arithmetic. A sound begins with a frame above the floor. It ends with a pause, or when
// it has kLongest frames. Quiet frames before and after it are dropped, and the rest is averaged into kFrames. Quiet is what is
// below the floor or far below the loudest frame, which is forgotten slowly: so the noise after a word is no sound.
#pragma once

#include <cstdint>

#include "math.hpp"
#include "sound/power_spectrum.hpp"

namespace tmf::sound {

// `Facts` is generated from the experiment, see codegen/tinymetafed_codegen/options/log_mel_facts.py.
template <typename Facts>
class LogMel {
 public:
  // Takes one sample. Returns whether a sound is complete: `write` gives its spectrogram until the next sample is taken.
  bool add(int16_t sample) {
    if (!running_) begin();
    if (complete_) clear();
    return take(sample);
  }

  // Ends the recording: the sound that goes on is complete. The next sample begins a new recording. Returns as `add`.
  bool finish() {
    if (!running_) return false;
    if (complete_) clear();
    for (uint32_t i = 0; i < Facts::kWindow / 2 + Facts::kHop && !complete_; ++i) take(0);
    if (!complete_ && length_ > 0) complete();
    running_ = false;
    return complete_;
  }

  // Writes the spectrogram of the complete sound, [bands][frames]: 255 is its loudest point, 0 is the range below. Level is
  // uint8_t, or float for a model's input, where `one` is the number that level 1 becomes.
  template <typename Level>
  void write(Level* levels, Level one = Level{1}) const {
    int32_t loudest = sum(0, 0);
    for (uint32_t frame = 0; frame < Facts::kFrames; ++frame) {
      for (uint32_t band = 0; band < Facts::kBands; ++band) {
        const int32_t here = sum(frame, band);
        if (here > loudest) loudest = here;
      }
    }
    const uint32_t range = length_ * Facts::kRange;
    for (uint32_t frame = 0; frame < Facts::kFrames; ++frame) {
      for (uint32_t band = 0; band < Facts::kBands; ++band) {
        const auto below = static_cast<uint32_t>(loudest - sum(frame, band));
        const uint32_t level = below < range ? 255 - (255 * below + range / 2) / range : 0;
        levels[band * Facts::kFrames + frame] = static_cast<Level>(level) * one;
      }
    }
  }

 private:
  static constexpr uint32_t kSize = Facts::kTransform;
  static_assert(Facts::kLongest <= UINT32_MAX / 256 / Facts::kRange, "256 times the largest sum is a uint32_t");

  void begin() {
    for (int16_t& sample : samples_) sample = 0;
    at_ = 0;
    missing_ = Facts::kWindow - Facts::kWindow / 2;  // the first window is centred on the first sample
    loudest_ = 0;
    running_ = true;
    clear();
  }

  void clear() {
    complete_ = false;
    first_ = length_ = quiet_ = 0;
  }

  bool take(int16_t sample) {
    samples_[at_] = sample;
    at_ = at_ + 1 == Facts::kWindow ? 0 : at_ + 1;
    if (--missing_ > 0) return false;
    missing_ = Facts::kHop;
    add_frame();
    return complete_;
  }

  void add_frame() {
    const uint32_t place = at(length_);
    const float loudness = analyse(frames_[place]);
    if (length_ == 0 && !is_heard(loudness)) {
      loudest_ *= Facts::kFade;
      return;
    }
    loudness_[place] = loudness;
    ++length_;
    if (loudness > loudest_) loudest_ = loudness;
    while (!is_heard(loudness_[first_])) {  // ends at the loudest frame at the latest
      first_ = at(1);
      --length_;
    }
    quiet_ = is_heard(loudness) ? 0 : quiet_ + 1;
    if (quiet_ == Facts::kPause || length_ == Facts::kLongest) complete();
  }

  void complete() {
    while (!is_heard(loudness_[at(length_ - 1)])) --length_;
    complete_ = true;
  }

  bool is_heard(float loudness) const {
    const float relative = Facts::kSilence * loudest_;
    return loudness > (relative > Facts::kFloor ? relative : Facts::kFloor);
  }

  // Where frame `i` of the sound is kept.
  uint32_t at(uint32_t i) const {
    const uint32_t place = first_ + i;
    return place < Facts::kLongest ? place : place - Facts::kLongest;
  }

  // Writes the frame of the last samples: the binary logarithm of the power of each band, in units of 1/256. Returns the sum of
  // the powers.
  float analyse(int16_t (&frame)[Facts::kBands]) {
    for (uint32_t i = 0, from = at_; i < Facts::kWindow; ++i) {
      transform_[i] = static_cast<float>(samples_[from]) * Facts::kHann[i];
      from = from + 1 == Facts::kWindow ? 0 : from + 1;
    }
    for (uint32_t i = Facts::kWindow; i < kSize; ++i) transform_[i] = 0;
    power_spectrum(transform_, Facts::kSine);

    // A bin's power is shared by the band whose centre is below it and the one whose centre is above it.
    float bands[Facts::kBands + 2] = {};  // the first and the last are dropped
    for (uint32_t i = 0; i < Facts::kBins; ++i) {
      const uint32_t bin = Facts::kFirstBin + i;
      const float power = transform_[bin < kSize / 2 ? 2 * bin : 1];
      const float upper = power * Facts::kShare[i];
      bands[Facts::kBand[i]] += power - upper;
      bands[Facts::kBand[i] + 1] += upper;
    }
    float loudness = 0;
    for (uint32_t band = 0; band < Facts::kBands; ++band) {
      const float power = bands[band + 1] + 0x1p-126f;
      loudness += power;
      frame[band] = static_cast<int16_t>(log2(power) * 256.0f + kRounder - kRounder);
    }
    return loudness;
  }

  // The sum of a band over the part of the sound that one frame of the spectrogram covers, times kFrames: a frame of the sound is
  // kFrames units long, one of the spectrogram length_ units.
  int32_t sum(uint32_t frame, uint32_t band) const {
    const uint32_t begin = frame * length_;
    const uint32_t end = begin + length_;
    int32_t total = 0;
    for (uint32_t i = begin / Facts::kFrames; i * Facts::kFrames < end; ++i) {
      const uint32_t from = i * Facts::kFrames > begin ? i * Facts::kFrames : begin;
      const uint32_t to = (i + 1) * Facts::kFrames < end ? (i + 1) * Facts::kFrames : end;
      total += frames_[at(i)][band] * static_cast<int32_t>(to - from);
    }
    return total;
  }

  // All zero at first, so that a static object needs no constructor.
  int16_t samples_[Facts::kWindow] = {};  // a ring
  float transform_[kSize] = {};
  int16_t frames_[Facts::kLongest][Facts::kBands] = {};  // a ring
  float loudness_[Facts::kLongest] = {};                 // of each frame
  float loudest_ = 0.0f;                                 // of the sound so far; fades after it
  uint32_t at_ = 0;                                      // where the next sample goes
  uint32_t missing_ = 0;                                 // samples until the next frame
  uint32_t first_ = 0;                                   // frame of the sound
  uint32_t length_ = 0;                                  // of the sound in frames; 0: there is none
  uint32_t quiet_ = 0;                                   // frames since the last one that was heard
  bool running_ = false;                                 // a recording has begun
  bool complete_ = false;
};

}  // namespace tmf::sound
