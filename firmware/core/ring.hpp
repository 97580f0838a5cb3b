// Ring buffer for received bytes: a port's interrupt handler adds them, its `read` removes them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf {

// Holds kCapacity bytes. Outside of the interrupt handler, a port must turn interrupts off while it uses the ring.
template <size_t kCapacity>
class Ring {
 public:
  bool full() const { return count_ == kCapacity; }
  bool empty() const { return count_ == 0; }

  // Must not be called when full().
  void push(uint8_t byte) {
    size_t end = first_ + count_;
    if (end >= kCapacity) end -= kCapacity;
    bytes_[end] = byte;
    ++count_;
  }

  // Moves up to `capacity` bytes to `to` and returns their number.
  size_t pop(uint8_t* to, size_t capacity) {
    size_t size = 0;
    while (size < capacity && count_ > 0) {
      to[size++] = bytes_[first_];
      if (++first_ == kCapacity) first_ = 0;
      --count_;
    }
    return size;
  }

 private:
  uint8_t bytes_[kCapacity];
  size_t first_;
  size_t count_;
};

}  // namespace tmf
