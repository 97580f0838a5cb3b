// The frame decoder: COBS and CRC-32, byte by byte; frame.hpp describes the frames.
#include "frame.hpp"

namespace tmf {

bool FrameDecoder::push(uint8_t byte) {
  if (byte == 0) {
    const bool valid = is_valid();
    if (valid) {
      size_ = filled_ - protocol::kFrameCrcBytes;
    } else if (!empty_) {
      ++damaged_;
    }
    restart();
    return valid;
  }
  if (empty_) size_ = 0;  // the buffer is about to be overwritten
  empty_ = false;
  if (block_left_ > 0) {
    --block_left_;
    append(byte);
    return false;
  }
  if (zero_due_) append(0);
  block_left_ = static_cast<uint8_t>(byte - 1);
  zero_due_ = byte != 0xFF;
  return false;
}

void FrameDecoder::append(uint8_t byte) {
  if (filled_ < capacity_) {
    buffer_[filled_++] = byte;
  } else {
    too_long_ = true;
  }
}

bool FrameDecoder::is_valid() const {
  constexpr size_t kCrcBytes = protocol::kFrameCrcBytes;
  if (block_left_ > 0 || too_long_ || filled_ < protocol::kFrameHeaderBytes + kCrcBytes) return false;
  Reader trailer(buffer_ + filled_ - kCrcBytes, kCrcBytes);
  return trailer.u32() == crc32(buffer_, filled_ - kCrcBytes);
}

void FrameDecoder::restart() {
  filled_ = 0;
  block_left_ = 0;
  zero_due_ = false;
  empty_ = true;
  too_long_ = false;
}

}  // namespace tmf
