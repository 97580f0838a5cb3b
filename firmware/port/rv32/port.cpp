// The board contract on RV32 (QEMU's virt): NS16550 received by interrupt, the machine timer as the tick counter.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"
#include "ring.hpp"

namespace tmf::port {
namespace {

using namespace bare_metal;
using namespace rv32;

Ring<board::kReceiveWindow> ring;  // shared with the interrupt handler; other code uses it with interrupts off

// Moves bytes from the UART to the ring. When the ring is full, bytes stay in the UART, which stops the sender.
void fill_ring() {
  while (!ring.full() && (uart().line_status & kUartReceived) != 0) ring.push(uart().data);
  // The UART interrupts until it is empty. With a full ring its interrupt is turned off, or nothing else would run.
  uart().interrupt_enable = ring.full() ? 0 : kUartReceiveInterrupt;
}

}  // namespace

extern "C" [[gnu::interrupt("machine")]] void external_interrupt_handler() {
  const uint32_t number = interrupt_claim();
  fill_ring();
  interrupt_claim() = number;
}

void init(int, char**) {
  bare_metal::begin(uart(), [](uint8_t byte) { ring.push(byte); });
  interrupt_priority(kUartInterruptNumber) = 1;
  interrupt_enable() = 1u << kUartInterruptNumber;
  interrupt_threshold() = 0;
  asm volatile("csrs mie, %0" ::"r"(kMachineExternalInterruptEnable));
  asm volatile("csrsi mstatus, %0" ::"i"(kMachineInterruptEnable) : "memory");
}

size_t read(uint8_t* to, size_t capacity) {
  const InterruptsOff guard;
  const size_t size = ring.pop(to, capacity);
  fill_ring();
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
  const InterruptsOff guard;
  if (ring.empty()) sleep();
}

uint32_t ticks() { return machine_time(); }

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, reinterpret_cast<const void*>(kUniqueIdAddress), sizeof id); }

}  // namespace tmf::port
