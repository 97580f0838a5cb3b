// An adaptive binary range coder in 32-bit integers: one multiplication for each bit, no division, no carry beyond what it has written.
//
// The range is divided in proportion to the probability of a 0. The code is the whole lower end of the last range, so the same
// bits always give the same bytes. After the last bit a decoder is at exactly that end; otherwise the bytes are not from an
// encoder.
//
// Source: G. N. N. Martin, Range Encoding, 1979, for bits as in Witten, Neal and Cleary 1987.
#pragma once

#include <cstddef>
#include <cstdint>

#include "protocol.hpp"

namespace tmf {

// The probability that a bit is 0. It follows the bits that it is used for: the first ones change it most.
class Chance {
 public:
  // Divides a range: the part of a 0.
  uint32_t part(uint32_t range) const {
    return (range >> protocol::kCoderBits) * (static_cast<uint32_t>(zero_) >> (protocol::kChanceBits - protocol::kCoderBits));
  }
  void learn(uint32_t bit) {
    if (bit != 0) zero_ = static_cast<uint16_t>(zero_ - (zero_ >> speed_));
    else zero_ = static_cast<uint16_t>(zero_ + (((1u << protocol::kChanceBits) - zero_) >> speed_));
    if (--left_ > 0) return;
    if (speed_ < protocol::kSlowest) ++speed_;
    left_ = static_cast<uint8_t>(1u << (speed_ - 1));
  }

 private:
  uint16_t zero_ = 1u << (protocol::kChanceBits - 1);
  uint8_t speed_ = 1;
  uint8_t left_ = 1;  // bits until it slows down
};

constexpr uint32_t kLeastRange = 1u << 24;  // below it the highest byte of the range's end is known
constexpr size_t kRangeEndBytes = 4;        // written after the last bit

// Writes bits to memory, or only counts the bytes where there is none.
class RangeEncoder {
 public:
  static constexpr bool kReads = false;

  explicit RangeEncoder(uint8_t* data) : data_(data) {}

  uint32_t bit(Chance& chance, uint32_t bit) {
    const uint32_t part = chance.part(range_);
    chance.learn(bit);
    if (bit == 0) range_ = part;
    else move(part, range_ - part);
    shift();
    return bit;
  }
  // A bit that is 0 as often as 1.
  uint32_t even(uint32_t bit) {
    const uint32_t half = range_ >> 1;
    if (bit == 0) range_ = half;
    else move(half, half);
    shift();
    return bit;
  }
  // Bytes of all bits so far, with the end.
  size_t size() const { return size_ + kRangeEndBytes; }
  void close() {
    for (size_t i = 0; i < kRangeEndBytes; ++i) emit();
  }

 private:
  void move(uint32_t by, uint32_t range) {
    low_ += by;
    range_ = range;
    if (low_ >= by || data_ == nullptr) return;
    for (size_t at = size_; ++data_[--at] == 0;) continue;  // the carry; no range goes beyond the first one
  }
  void shift() {
    for (; range_ < kLeastRange; range_ <<= 8) emit();
  }
  void emit() {
    if (data_ != nullptr) data_[size_] = static_cast<uint8_t>(low_ >> 24);
    ++size_;
    low_ <<= 8;
  }

  uint8_t* data_;
  size_t size_ = 0;
  uint32_t low_ = 0;
  uint32_t range_ = UINT32_MAX;
};

// Reads bits; the argument `bit` of its functions is not used.
class RangeDecoder {
 public:
  static constexpr bool kReads = true;

  RangeDecoder(const uint8_t* data, size_t size) : data_(data), left_(size) {
    for (size_t i = 0; i < kRangeEndBytes; ++i) code_ = code_ << 8 | next();
  }

  uint32_t bit(Chance& chance, uint32_t) {
    const uint32_t part = chance.part(range_), bit = code_ >= part;
    chance.learn(bit);
    return take(bit, part, range_ - part);
  }
  uint32_t even(uint32_t) {
    const uint32_t half = range_ >> 1;
    return take(code_ >= half, half, half);
  }
  // Whether these were all bits, and the bytes are those that an encoder writes for them.
  bool is_used_up() const { return ok_ && left_ == 0 && code_ == 0; }

 private:
  uint32_t take(uint32_t bit, uint32_t part, uint32_t rest) {
    if (bit == 0) {
      range_ = part;
    } else {
      code_ -= part;
      range_ = rest;
    }
    for (; range_ < kLeastRange; range_ <<= 8) code_ = code_ << 8 | next();
    return bit;
  }
  uint32_t next() {
    if (left_ == 0) {
      ok_ = false;
      return 0;
    }
    --left_;
    return *data_++;
  }

  const uint8_t* data_;
  size_t left_;
  uint32_t code_ = 0;
  uint32_t range_ = UINT32_MAX;
  bool ok_ = true;
};

}  // namespace tmf
