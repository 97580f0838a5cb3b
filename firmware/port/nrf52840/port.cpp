// The board contract on the nRF52840: UARTE0 received byte by byte by interrupt, TIMER0 as the tick counter.
#include "port.hpp"

#include <cstring>

#include "registers.hpp"
#include "ring.hpp"

namespace tmf::port {
namespace {

using namespace nrf52840;
using cortex_m::InterruptsOff;

// Serial1 of the Arduino Nano 33 BLE.
constexpr uint32_t kTransmitPin = 3;
constexpr uint32_t kReceivePin = 10;

Ring<board::kReceiveWindow> ring;  // shared with the interrupt handler; other code uses it with interrupts off

// Memory that the UARTE reads and writes by DMA. Renode writes beyond `received` when bytes arrive between the two register
// writes in take_byte(). Then `transmitted` is damaged, which does no harm: the host repeats the request for a damaged answer.
struct {
  volatile uint8_t received;
  uint8_t transmitted[256];
} dma;

// Moves the received byte to the ring and starts the next transfer. When the ring is full, the byte stays where it is.
//
// A transfer has one byte: a longer one would end only when it is full, and a message may end before. At 115200 baud there are
// 87 us for each byte, and the chip's FIFO holds a few bytes more.
void take_byte() {
  if (uarte0().received == kNoEvent) return;  // the handler may run again before the write that clears the event has arrived
  if (ring.full()) {
    uarte0().interrupts_off = kUarteReceived;
    return;
  }
  ring.push(dma.received);
  uarte0().received = kNoEvent;
  uarte0().start_receive = kTrigger;
}

}  // namespace

extern "C" void uarte0_handler() { take_byte(); }

void init(int, char**) {
  // After reset the core runs at 64 MHz from an RC oscillator, which is too inaccurate for a UART. The crystal oscillator takes
  // over when it is stable, well before a host can send a request.
  start_crystal() = kTrigger;
  instruction_cache() = kCacheOn;
  timer0().mode = kTimerCountsTime;
  timer0().width = kTimer32Bits;
  timer0().prescaler = 0;
  timer0().start = kTrigger;
  port1().set_high = 1u << kTransmitPin;  // the line's idle level, also while the UARTE does not drive the pin
  port1().set_output = 1u << kTransmitPin;
  port1().pin[kReceivePin] = kPinInputPulledUp;
  uarte0().pin_transmit = on_port1(kTransmitPin);
  uarte0().pin_receive = on_port1(kReceivePin);
  uarte0().baud_rate = kUarteBaud115200;
  uarte0().enable = kUarteEnable;
  uarte0().receive.address = cortex_m::address_of(const_cast<const uint8_t*>(&dma.received));
  uarte0().receive.maximum_count = 1;
  uarte0().interrupts_on = kUarteReceived;
  uarte0().start_receive = kTrigger;
  cortex_m::interrupt_enable() = 1u << kUarteInterruptNumber;
}

size_t read(uint8_t* to, size_t capacity) {
  const InterruptsOff guard;
  const bool was_full = ring.full();
  const size_t size = ring.pop(to, capacity);
  if (was_full) uarte0().interrupts_on = kUarteReceived;  // a byte may be waiting for room
  return size;
}

void write(const uint8_t* from, size_t size) {
  while (size > 0) {
    const size_t part = size < sizeof dma.transmitted ? size : sizeof dma.transmitted;
    std::memcpy(dma.transmitted, from, part);  // `from` may be in flash, which the DMA cannot read
    uarte0().transmit.address = cortex_m::address_of(dma.transmitted);
    uarte0().transmit.maximum_count = part;
    uarte0().transmitted = kNoEvent;
    cortex_m::finish_writes();
    uarte0().start_transmit = kTrigger;
    while (uarte0().transmitted == kNoEvent) {
    }
    asm volatile("" ::: "memory");  // the compiler must not move the next copy to before the loop
    from += part;
    size -= part;
  }
}

void wait() {
  const InterruptsOff guard;
  if (ring.empty()) cortex_m::sleep();
}

uint32_t ticks() {
  timer0().capture[0] = kTrigger;
  return timer0().captured[0];
}

// Most significant byte first, as the number is printed.
void unique_id(uint8_t (&id)[8]) {
  const uint64_t number = static_cast<uint64_t>(device_id().high) << 32 | device_id().low;
  for (int i = 0; i < 8; ++i) id[i] = static_cast<uint8_t>(number >> (56 - 8 * i));
}

}  // namespace tmf::port
