// What lines over a network have in common. Understood by compilers from C++11 on, as all that a sketch includes.
#pragma once

#include "arduino.hpp"

namespace tmf {

// The firmware writes an answer in many small pieces, of which the last ends with the answer's only 0x00. A network carries each
// write as a packet of its own, or keeps it until the one before is acknowledged; so an answer is gathered and sent whole.
class NetworkLine : public Stream {
 public:
  enum : size_t { kMessageBytes = 1024 };  // of an answer that is sent whole; a longer one is sent in parts

  size_t write(uint8_t byte) override { return write(&byte, 1); }

  // An answer that nobody receives is dropped: the host repeats its request.
  size_t write(const uint8_t* from, size_t size) override {
    for (size_t i = 0; i < size; ++i) {
      gathered_[filled_++] = from[i];
      if (from[i] != 0 && filled_ < kMessageBytes) continue;
      send(gathered_, filled_);
      filled_ = 0;
    }
    return size;
  }

  int peek() override { return -1; }  // nobody asks

 protected:
  virtual void send(const uint8_t* from, size_t size) = 0;

 private:
  uint8_t gathered_[kMessageBytes];
  size_t filled_ = 0;
};

}  // namespace tmf
