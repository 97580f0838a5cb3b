// Gathers the bytes of an answer into packets of USB, for Arduino cores whose USB serial sends each write as packets of its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf::port {

// An answer is written in many small pieces, one for each block of its coding. As one packet each they would take many times
// as long, because the core waits for the host after each.
//
// A packet of kPacketBytes says to the host's driver that more will come. Cores for mbed send no empty packet after a last one
// that is full, and the driver would keep the end of the answer. So the last packet is always shorter: an answer of n * 64 bytes
// ends with packets of 63 bytes and of one.
class Packets {
 public:
  static constexpr size_t kPacketBytes = 64;

  // Takes bytes of answers, each of which ends with its only 0x00. `send(const uint8_t*, size_t)` sends one packet and returns
  // the number of bytes sent: 0 when no host listens, then the packet is dropped.
  template <typename Send>
  void write(const uint8_t* from, size_t size, Send&& send) {
    for (size_t i = 0; i < size; ++i) {
      if (filled_ == kPacketBytes) flush(kPacketBytes, send);
      packet_[filled_++] = from[i];
      if (from[i] != 0) continue;
      const size_t last = filled_ == kPacketBytes ? 1 : 0;
      flush(filled_ - last, send);
      if (last > 0) {
        packet_[0] = 0;
        flush(1, send);
      }
    }
  }

 private:
  template <typename Send>
  void flush(size_t size, Send&& send) {
    for (size_t at = 0; at < size;) {
      const size_t sent = send(packet_ + at, size - at);
      if (sent == 0) break;
      at += sent;
    }
    filled_ = 0;
  }

  uint8_t packet_[kPacketBytes] = {};
  size_t filled_ = 0;
};

}  // namespace tmf::port
