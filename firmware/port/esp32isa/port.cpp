// The board contract on the Xtensa core: the UART received by interrupt, the core's cycle counter as ticks.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"

namespace tmf::port {
namespace {

using namespace esp32isa;

constexpr uint32_t kReceiveSlots = board::kReceiveWindow + 1;  // one stays free, so that a full ring is no empty one

// The handler in vectors.s puts bytes at `end`, read() takes them from `first`: each writes its own index, and neither
// disturbs the other. Empty when the two are equal.
struct ReceiveRing {
  volatile uint32_t first;
  volatile uint32_t end;
  volatile uint8_t bytes[kReceiveSlots];
};
extern "C" {
ReceiveRing receive_ring;
extern const uint32_t receive_slots;  // for vectors.s, which knows no C++ constant
const uint32_t receive_slots = kReceiveSlots;
}

}  // namespace

void init(int, char**) {
  uart().interrupt_enable = kUartReceiveInterruptEnable;
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
  if (size > 0) uart().interrupt_enable = kUartReceiveInterruptEnable;  // a full ring has turned it off
  return size;
}

void write(const uint8_t* from, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    while ((uart().line_status & kUartTransmitEmpty) == 0) {
    }
    uart().data = from[i];
  }
}

void wait() {
  uint32_t before;
  asm volatile("rsil %0, 15" : "=r"(before)::"memory");  // a byte that comes between the question and the sleep is not lost
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
