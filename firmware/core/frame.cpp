// The frame decoder: COBS and CRC-32, byte by byte; frame.hpp describes the frames.
#include "frame.hpp"

namespace tmf {

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

bool FrameDecoder::push(uint8_t byte, uint8_t* buffer, size_t capacity) {
  return take(byte, buffer, capacity, [this, buffer] { return is_valid(buffer); });
}

bool FrameDecoder::push_unchecked(uint8_t byte, uint8_t* buffer, size_t capacity) {
  return take(byte, buffer, capacity, [this] { return is_whole(); });
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
