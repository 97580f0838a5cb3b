// The board contract on Arduino's API: a line and the clock. Each board's folder has its init(), for Serial, and unique_id().
#include "port.hpp"

#include "arduino.hpp"

namespace tmf::port {
namespace {

Stream* line = &Serial;

}  // namespace

void use(Stream& opened) { line = &opened; }

static_assert(board::kTicksPerSecond == 1'000'000, "micros() counts microseconds");

// The Arduino core receives by interrupt into its own buffer while a sample is trained. Each board's folder says why this
// buffer does not overflow.
size_t read(uint8_t* to, size_t capacity) {
  const int waiting = line->available();
  size_t size = 0;
  while (size < capacity && static_cast<int>(size) < waiting) to[size++] = static_cast<uint8_t>(line->read());
  return size;
}

// Writing waits for room. It writes nothing while no host has the port open: the answer is dropped, and the host repeats
// its request.
void write(const uint8_t* from, size_t size) {
  while (size > 0) {
    const size_t sent = line->write(from, size);
    if (sent == 0) return;
    from += sent;
    size -= sent;
  }
}

// Polls once a millisecond and lets the processor sleep in between. Waiting for an interrupt would not do: after a host has
// closed and reopened the port, USB serial receives nothing until available() is called.
void wait() {
  while (line->available() == 0) delay(1);
}

uint32_t ticks() { return static_cast<uint32_t>(micros()); }

}  // namespace tmf::port
