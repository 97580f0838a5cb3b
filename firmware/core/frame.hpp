// Frames on a serial line: COBS(type, sequence, payload, CRC-32), then 0x00 (Cheshire and Baker, 1999).
#pragma once

#include <cstddef>
#include <cstdint>

#include "crc32.hpp"
#include "protocol.hpp"

namespace tmf {

// Largest payload, in bytes, whose frame takes at most `window` bytes on the wire, with a delimiter at either end.
constexpr size_t payload_capacity(size_t window) {
  const size_t room = window - 3;  // without two delimiters and the first COBS code; there is a code for every 254 bytes
  return room - (room + 1) / 255 - protocol::kFrameHeaderBytes - protocol::kFrameCrcBytes;
}

// Decodes frames from the bytes of a line, one by one. After damaged bytes it is synchronised again at the next 0x00.
class FrameDecoder {
 public:
  // Decodes into `buffer`, which holds one frame with its CRC; longer frames are dropped. All calls pass the same buffer.
  // Returns whether `byte` ended a valid frame, which stays in the buffer until the next push.
  [[nodiscard]] bool push(uint8_t byte, uint8_t* buffer, size_t capacity);

  // The same for frames with a MAC: the CRC is behind the frame, and who takes the frame looks at it where it matters.
  [[nodiscard, gnu::noinline]] bool push_unchecked(uint8_t byte, uint8_t* buffer, size_t capacity) {
    return take(byte, buffer, capacity, [this] { return is_whole(); });
  }

  // Bytes of the frame in the buffer: type, sequence and payload, without the CRC.
  size_t size() const { return size_; }

  // Number of frames dropped so far because they were cut or too long, or because their CRC was wrong.
  uint32_t damaged() const { return damaged_; }

 private:
  // Takes a byte; `is_right` says whether a frame that it ends is valid.
  template <typename IsRight>
  [[nodiscard, gnu::always_inline]] inline bool take(uint8_t byte, uint8_t* buffer, size_t capacity, IsRight is_right);
  void append(uint8_t byte, uint8_t* buffer, size_t capacity);
  [[nodiscard, gnu::always_inline]] inline bool is_whole() const {
    return !(block_left_ > 0 || too_long_ || filled_ < protocol::kFrameHeaderBytes + protocol::kFrameCrcBytes);
  }
  [[nodiscard]] bool is_valid(const uint8_t* buffer) const;
  void restart();

  // All zero at first: a static decoder is in zeroed memory and needs no constructor.
  size_t filled_ = 0;
  size_t size_ = 0;
  uint32_t damaged_ = 0;
  uint8_t block_left_ = 0;  // bytes of the current COBS block that have not arrived yet
  bool zero_due_ = false;   // a zero follows the block, unless the frame ends with it
  bool begun_ = false;
  bool too_long_ = false;
};

template <typename IsRight>
bool FrameDecoder::take(uint8_t byte, uint8_t* buffer, size_t capacity, IsRight is_right) {
  if (byte == 0) {
    const bool valid = is_right();
    if (valid) {
      size_ = filled_ - protocol::kFrameCrcBytes;
    } else if (begun_) {
      ++damaged_;
    }
    restart();
    return valid;
  }
  if (!begun_) size_ = 0;  // the buffer is about to be overwritten
  begun_ = true;
  if (block_left_ > 0) {
    --block_left_;
    append(byte, buffer, capacity);
    return false;
  }
  if (zero_due_) append(0, buffer, capacity);
  block_left_ = static_cast<uint8_t>(byte - 1);
  zero_due_ = byte != 0xFF;
  return false;
}

// Sends one frame. `body` holds type, sequence and payload in `size` bytes, with room for kFrameCrcBytes after them.
// `sink(const uint8_t*, size_t)` sends bytes, in order. COBS blocks are sent directly from `body`, without a copy.
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
    if (run < kLongestRun) ++at;  // the code byte stands for this zero
  }
  const uint8_t end = 0;
  sink(&end, size_t{1});
}

}  // namespace tmf
