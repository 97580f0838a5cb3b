// The frame decoder: COBS and CRC-32, byte by byte; frame.hpp describes the frames.
#include "frame.hpp"

namespace tmf {

bool FrameDecoder::push(uint8_t byte, uint8_t* buffer, size_t capacity) {
  return take(byte, buffer, capacity, [this, buffer] { return is_valid(buffer); });
}

void FrameDecoder::append(uint8_t byte, uint8_t* buffer, size_t capacity) {
  if (filled_ < capacity) {
    buffer[filled_++] = byte;
  } else {
    too_long_ = true;
  }
}

bool FrameDecoder::is_valid(const uint8_t* buffer) const {
  constexpr size_t kCrcBytes = protocol::kFrameCrcBytes;
  if (!is_whole()) return false;
  Reader trailer(buffer + filled_ - kCrcBytes, kCrcBytes);
  return trailer.u32() == crc32(buffer, filled_ - kCrcBytes);
}

void FrameDecoder::restart() {
  filled_ = 0;
  block_left_ = 0;
  zero_due_ = false;
  begun_ = false;
  too_long_ = false;
}

}  // namespace tmf
