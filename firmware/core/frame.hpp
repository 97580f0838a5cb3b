// Frames on a serial line: COBS(type, sequence, payload, CRC-32) ended by 0x00 (Cheshire and Baker, 1999).
#pragma once

#include <cstddef>
#include <cstdint>

#include "crc32.hpp"
#include "protocol.hpp"

namespace tmf {

// Largest payload whose frame, with a delimiter at either end, takes at most `window` bytes on the wire.
constexpr size_t payload_capacity(size_t window) {
  const size_t room = window - 3;  // two delimiters and the first COBS code; one more code for every 254 bytes
  return room - (room + 1) / 255 - protocol::kFrameHeaderBytes - protocol::kFrameCrcBytes;
}

// Takes a line's bytes one by one; whatever garbage comes, it is in step again after the next 0x00.
class FrameDecoder {
 public:
  // `buffer` holds one frame, its CRC included; longer ones are dropped.
  FrameDecoder(uint8_t* buffer, size_t capacity) : buffer_(buffer), capacity_(capacity) {}

  // True when `byte` ended a valid frame, which stays readable until the next push.
  [[nodiscard]] bool push(uint8_t byte);

  // Type, sequence and payload, without the CRC.
  const uint8_t* data() const { return buffer_; }
  size_t size() const { return size_; }

  // Frames dropped so far because they were cut, too long or failed their CRC.
  uint32_t damaged() const { return damaged_; }

 private:
  void append(uint8_t byte);
  [[nodiscard]] bool is_valid() const;
  void restart();

  uint8_t* buffer_;
  size_t capacity_;
  size_t filled_ = 0;
  size_t size_ = 0;
  uint32_t damaged_ = 0;
  uint8_t block_left_ = 0;  // bytes of the current COBS block still to come
  bool zero_due_ = false;   // the block stands for a zero after it, unless the frame ends there
  bool empty_ = true;
  bool too_long_ = false;
};

// Sends one frame. `body` holds type, sequence and payload, and has FRAME_CRC_BYTES to spare after `size`;
// `sink(const uint8_t*, size_t)` takes the bytes in order. Nothing is copied: COBS blocks leave straight from `body`.
template <typename Sink>
void send_frame(uint8_t* body, size_t size, Sink&& sink) {
  constexpr size_t kLongestRun = 254;
  const uint32_t crc = crc32(body, size);
  for (size_t i = 0; i < protocol::kFrameCrcBytes; ++i) body[size++] = static_cast<uint8_t>(crc >> (8 * i));
  size_t at = 0;
  for (bool more = true; more;) {
    size_t run = 0;
    while (run < kLongestRun && at + run < size && body[at + run] != 0) ++run;
    const uint8_t code = static_cast<uint8_t>(run + 1);
    sink(&code, size_t{1});
    if (run > 0) sink(body + at, run);
    at += run;
    more = at < size;
    if (run < kLongestRun) ++at;  // the zero that the code byte stands for
  }
  const uint8_t end = 0;
  sink(&end, size_t{1});
}

}  // namespace tmf
