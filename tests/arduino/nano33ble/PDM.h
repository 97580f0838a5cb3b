// A stand-in for Arduino's PDM library: a test plays samples, as the microphone's interrupt handler would.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

class PDMClass {
 public:
  int begin(int channels, int hertz) { return running = channels == 1 && hertz == 16000; }
  void end() { running = false; }
  void onReceive(void (*handler)()) { handler_ = handler; }
  void setGain(int) {}
  int available() { return static_cast<int>(2 * left_); }
  int read(void* to, size_t size) {
    const size_t count = size / 2 < left_ ? size / 2 : left_;
    std::memcpy(to, samples_, 2 * count);
    samples_ += count;
    left_ -= count;
    return static_cast<int>(2 * count);
  }

  // For the test.
  void play(const int16_t* samples, size_t count) {
    samples_ = samples;
    left_ = count;
    handler_();
  }
  bool running = false;

 private:
  void (*handler_)() = nullptr;
  const int16_t* samples_ = nullptr;
  size_t left_ = 0;
};

inline PDMClass PDM;
