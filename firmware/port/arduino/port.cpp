// The board contract on Arduino's API: a line and the clock. Each board's folder has its init(), for Serial, and unique_id().
#include "port.hpp"

#include "arduino.hpp"
#include "packets.hpp"
#include "watchdog.hpp"

namespace tmf::port {
namespace {

Stream* line = &Serial;
Packets packets;

}  // namespace

[[gnu::weak]] void feed_watchdog() {}

void use(Stream& opened) { line = &opened; }

static_assert(board::kTicksPerSecond == 1'000'000, "micros() counts microseconds");

// The Arduino core receives by interrupt into its own buffer while a sample is trained. Each board's folder says why this
// buffer does not overflow.
//
// The main loop reads before every training step, and `wait` comes back to its loop every millisecond: a board that does neither
// for long has stopped.
size_t read(uint8_t* to, size_t capacity) {
  feed_watchdog();
  const int waiting = line->available();
  size_t size = 0;
  while (size < capacity && static_cast<int>(size) < waiting) to[size++] = static_cast<uint8_t>(line->read());
  return size;
}

// Writing waits for room. It writes nothing while no host has the port open: the answer is dropped, and the host repeats
// its request.
void write(const uint8_t* from, size_t size) {
  packets.write(from, size, [](const uint8_t* packet, size_t bytes) { return line->write(packet, bytes); });
}

// Polls once a millisecond and lets the processor sleep in between. Waiting for an interrupt would not do: after a host has
// closed and reopened the port, USB serial receives nothing until available() is called.
void wait() {
  while (line->available() == 0) {
    feed_watchdog();
    delay(1);
  }
}

uint32_t ticks() { return static_cast<uint32_t>(micros()); }

}  // namespace tmf::port
