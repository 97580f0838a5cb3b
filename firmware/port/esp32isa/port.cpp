// The board contract on the Xtensa core: the UART received by interrupt, the core's cycle counter as ticks.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"

namespace tmf::port {
namespace {

using namespace esp32isa;

constexpr uint32_t kReceiveCapacity = 1024;  // as in vectors.s
static_assert(kReceiveCapacity >= board::kReceiveWindow, "the ring must hold what may be under way");

// The handler in vectors.s puts bytes and counts `end`, read() takes them and counts `first`: neither disturbs the other.
struct ReceiveRing {
  volatile uint32_t first;
  volatile uint32_t end;
  volatile uint8_t bytes[kReceiveCapacity];
};
extern "C" ReceiveRing receive_ring;
ReceiveRing receive_ring;

}  // namespace

void init(int, char**) {
  uart().interrupt_enable = kUartReceiveInterruptEnable;
  asm volatile("wsr %0, intenable\n rsync" ::"r"(kUartInterrupt));
}

size_t read(uint8_t* to, size_t capacity) {
  const uint32_t first = receive_ring.first;
  const uint32_t there = receive_ring.end - first;
  const size_t size = there < capacity ? there : capacity;
  for (size_t i = 0; i < size; ++i) to[i] = receive_ring.bytes[(first + i) % kReceiveCapacity];
  receive_ring.first = first + size;
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
