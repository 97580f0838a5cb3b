// The board contract's line and clock on Arduino's API; init() and unique_id() are in the folder of each board.
#include "port.hpp"

#include "arduino.hpp"

namespace tmf::port {

static_assert(board::kTicksPerSecond == 1'000'000, "micros() counts microseconds");

// The core's own buffer is filled by interrupt while a sample trains; each board's folder says why nothing is lost in it.
size_t read(uint8_t* to, size_t capacity) {
  const int waiting = Serial.available();
  size_t size = 0;
  while (size < capacity && static_cast<int>(size) < waiting) to[size++] = static_cast<uint8_t>(Serial.read());
  return size;
}

// Waits for room by itself. Takes nothing while nobody has the port open: the answer is dropped, and the host will ask again.
void write(const uint8_t* from, size_t size) {
  while (size > 0) {
    const size_t sent = Serial.write(from, size);
    if (sent == 0) return;
    from += sent;
    size -= sent;
  }
}

// Asks once a millisecond and lets the core sleep between. Not woken by an interrupt: after a host has closed and opened the
// port again, USB serial receives nothing before available() is called.
void wait() {
  while (Serial.available() == 0) delay(1);
}

uint32_t ticks() { return static_cast<uint32_t>(micros()); }

}  // namespace tmf::port
