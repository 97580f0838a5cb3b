// The board contract on the Xtensa core: the UART received by interrupt, the core's cycle counter as ticks.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"

namespace tmf::port {
namespace {

using namespace bare_metal;
using namespace esp32isa;

constexpr uint32_t kReceiveSlots = board::kReceiveWindow + 1;  // one stays free, to tell a full ring from an empty one

// The handler in vectors.s adds bytes at `end`, read() removes them at `first`. Each writes only its own index, so no lock is
// needed. The ring is empty when the two are equal.
struct ReceiveRing {
  volatile uint32_t first;
  volatile uint32_t end;
  volatile uint8_t bytes[kReceiveSlots];
};
extern "C" {
ReceiveRing receive_ring;
extern const uint32_t receive_slots;  // for vectors.s, which cannot use a C++ constant
const uint32_t receive_slots = kReceiveSlots;
}

}  // namespace

void init(int, char**) {
  bare_metal::begin(uart(), [](uint8_t byte) {
    receive_ring.bytes[0] = byte;
    receive_ring.end = 1;
  });
  asm volatile("wsr %0, intenable\n rsync" ::"r"(kUartInterrupt));
}

size_t read(uint8_t* to, size_t capacity) {
  uint32_t first = receive_ring.first;
  const uint32_t end = receive_ring.end;
  size_t size = 0;
  while (size < capacity && first != end) {
    to[size++] = receive_ring.bytes[first];
    if (++first == kReceiveSlots) first = 0;
  }
  receive_ring.first = first;
  if (size > 0) uart().interrupt_enable = kUartReceiveInterrupt;  // the handler turns it off when the ring is full
  return size;
}

void write(const uint8_t* from, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    while ((uart().line_status & kUartTransmitterHasRoom) == 0) {
    }
    uart().data = from[i];
  }
}

void wait() {
  uint32_t before;
  asm volatile("rsil %0, 15" : "=r"(before)::"memory");  // a byte that arrives before the sleep ends it at once
  if (receive_ring.first == receive_ring.end) asm volatile("waiti 0" ::: "memory");
  asm volatile("wsr %0, ps\n rsync" ::"r"(before) : "memory");
}

uint32_t ticks() {
  uint32_t now;
  asm volatile("rsr %0, ccount" : "=r"(now));
  return now;
}

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, reinterpret_cast<const void*>(kUniqueIdAddress), sizeof id); }

}  // namespace tmf::port
