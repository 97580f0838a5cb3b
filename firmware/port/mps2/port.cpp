// The board contract on MPS2 (QEMU's mps2-an386): UART0 received by interrupt, TIMER0 as the tick counter.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"
#include "ring.hpp"

namespace tmf::port {
namespace {

using namespace mps2;
using cortex_m::InterruptsOff;

Ring<board::kReceiveWindow> ring;  // shared with the interrupt handler; other code uses it with interrupts off

// Moves bytes from the UART to the ring. When the ring is full, bytes stay in the UART, which stops the sender.
void fill_ring() {
  // Cleared before the data are read, so that a byte that arrives meanwhile raises the interrupt again.
  uart0().interrupts = kUartReceiveInterrupt;
  while (!ring.full() && (uart0().state & kUartReceiveFull) != 0) ring.push(static_cast<uint8_t>(uart0().data));
}

}  // namespace

extern "C" void uart0_receive_handler() { fill_ring(); }

void init(int, char**) {
  timer0().reload = 0xFFFFFFFF;
  timer0().value = 0xFFFFFFFF;
  timer0().control = kTimerEnable;
  uart0().divisor = kUartMinDivisor;
  uart0().control = kUartTransmitEnable | kUartReceiveEnable | kUartReceiveInterruptEnable;
  // QEMU checks its serial line when DATA is read, not when the receiver is enabled: this read saves up to a second.
  static_cast<void>(uart0().data);
  cortex_m::interrupt_enable() = 1u << kUart0ReceiveInterruptNumber;
}

size_t read(uint8_t* to, size_t capacity) {
  const InterruptsOff guard;
  const size_t size = ring.pop(to, capacity);
  fill_ring();  // a byte that was left in the UART raises no further interrupt
  return size;
}

void write(const uint8_t* from, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    while ((uart0().state & kUartTransmitFull) != 0) {
    }
    uart0().data = from[i];
  }
}

void wait() {
  const InterruptsOff guard;
  if (ring.empty()) cortex_m::sleep();
}

uint32_t ticks() { return 0xFFFFFFFF - timer0().value; }

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, reinterpret_cast<const void*>(kUniqueIdAddress), sizeof id); }

}  // namespace tmf::port
