// The board contract on the Xtensa core: the UART received by interrupt, the core's cycle counter as ticks.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"

namespace tmf::port {
namespace {

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
  uart().line_control = kUart8Bits | kUartDivisorOpen;
  uart().data = 1;  // the fastest rate: the UART then detects the end of a burst soonest
  uart().interrupt_enable = 0;
  uart().line_control = kUart8Bits;
  // Turning the FIFOs on clears them. Loop-back disconnects the line meanwhile, and a byte that has arrived is saved first.
  uart().modem_control = kUartLoopBack;
  if ((uart().line_status & kUartReceived) != 0) {
    receive_ring.bytes[0] = static_cast<uint8_t>(uart().data);
    receive_ring.end = 1;
  }
  uart().fifo_control = kUartFifosEnableAndClear | kUartInterruptFrom8Bytes;
  uart().modem_control = 0;
  // QEMU checks its serial line when data is read, not when the FIFOs are cleared: this read saves up to a second.
  static_cast<void>(uart().data);
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
  if (size > 0) uart().interrupt_enable = kUartReceiveInterruptEnable;  // the handler turns it off when the ring is full
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
