// Little-endian reading and writing of message fields, independent of the machine's own byte order and alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tmf {

static_assert(sizeof(float) == 4, "weights and samples travel as IEEE 754 binary32");

// Four bytes as a number; where the machine can, compilers make one load of it.
[[gnu::always_inline]] inline uint32_t load_u32(const uint8_t* from) {
  return static_cast<uint32_t>(from[0]) | static_cast<uint32_t>(from[1]) << 8 | static_cast<uint32_t>(from[2]) << 16 |
         static_cast<uint32_t>(from[3]) << 24;
}

// Reads the fields of a received payload; `ok()` is false from the first read past its end on.
class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : at_(data), left_(size) {}

  uint8_t u8() { return static_cast<uint8_t>(little_endian(1)); }
  uint16_t u16() { return static_cast<uint16_t>(little_endian(2)); }
  uint32_t u32() { return little_endian(4); }

  float f32() {
    const uint32_t bits = little_endian(4);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  void bytes(uint8_t* to, size_t size) {
    const uint8_t* from = take(size);
    if (from != nullptr && size > 0) std::memcpy(to, from, size);
  }

  // Skips `size` bytes and returns where they start, or nullptr when fewer are left.
  const uint8_t* take(size_t size) {
    if (size > left_) {
      ok_ = false;
      left_ = 0;
      return nullptr;
    }
    const uint8_t* start = at_;
    at_ += size;
    left_ -= size;
    return start;
  }

  size_t left() const { return left_; }
  bool ok() const { return ok_; }

 private:
  uint32_t little_endian(size_t size) {
    const uint8_t* from = take(size);
    uint32_t value = 0;
    for (size_t i = 0; from != nullptr && i < size; ++i) value |= static_cast<uint32_t>(from[i]) << (8 * i);
    return value;
  }

  const uint8_t* at_;
  size_t left_;
  bool ok_ = true;
};

// Writes the fields of an answer's payload; `ok()` is false from the first write past the capacity on.
class Writer {
 public:
  Writer(uint8_t* data, size_t capacity) : start_(data), capacity_(capacity) {}

  void u8(uint8_t value) { little_endian(value, 1); }
  void u16(uint16_t value) { little_endian(value, 2); }
  void u32(uint32_t value) { little_endian(value, 4); }

  void f32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    little_endian(bits, 4);
  }

  void bytes(const uint8_t* from, size_t size) {
    if (size == 0) return;  // `from` may be nullptr, which memcpy does not accept
    if (uint8_t* to = reserve(size)) std::memcpy(to, from, size);
  }

  // Returns where the caller may write `size` bytes, or nullptr when they do not fit.
  uint8_t* reserve(size_t size) {
    if (size > left()) {
      ok_ = false;
      return nullptr;
    }
    uint8_t* to = start_ + size_;
    size_ += size;
    return to;
  }

  size_t size() const { return size_; }
  size_t left() const { return capacity_ - size_; }
  bool ok() const { return ok_; }

 private:
  void little_endian(uint32_t value, size_t size) {
    uint8_t* to = reserve(size);
    for (size_t i = 0; to != nullptr && i < size; ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
  }

  uint8_t* start_;
  size_t capacity_;
  size_t size_ = 0;
  bool ok_ = true;
};

}  // namespace tmf
