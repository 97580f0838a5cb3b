// The NS16550 UART of QEMU's boards, with 16-byte FIFOs. `Register` is as wide as the distance between two of its registers.
#pragma once

#include <cstdint>

namespace tmf::bare_metal {

template <typename Register>
struct Ns16550 {
  volatile Register data;              // DLL while the divisor is open
  volatile Register interrupt_enable;  // DLM while the divisor is open
  volatile Register fifo_control;
  volatile Register line_control;
  volatile Register modem_control;
  volatile Register line_status;
};
constexpr uint8_t kUartReceiveInterrupt = 1u << 0;     // in interrupt_enable
constexpr uint8_t kUartFifosEnableAndClear = 0x07;     // in fifo_control
constexpr uint8_t kUartInterruptFrom8Bytes = 2u << 6;  // or after a pause of four bytes' time
constexpr uint8_t kUart8Bits = 3u << 0;                // in line_control
constexpr uint8_t kUartDivisorOpen = 1u << 7;
constexpr uint8_t kUartLoopBack = 1u << 4;  // in modem_control
constexpr uint8_t kUartReceived = 1u << 0;  // in line_status
constexpr uint8_t kUartTransmitterHasRoom = 1u << 5;

// Sets the fastest rate and switches the FIFOs and the receive interrupt on. `keep` is given a byte that has arrived already.
template <typename Register, typename Keep>
void begin(Ns16550<Register>& uart, Keep keep) {
  uart.line_control = kUart8Bits | kUartDivisorOpen;
  uart.data = 1;  // the fastest rate: the UART then detects the end of a burst soonest
  uart.interrupt_enable = 0;
  uart.line_control = kUart8Bits;
  // Turning the FIFOs on clears them. Loop-back disconnects the line meanwhile, and a byte that has arrived is saved first.
  uart.modem_control = kUartLoopBack;
  if ((uart.line_status & kUartReceived) != 0) keep(static_cast<uint8_t>(uart.data));
  uart.fifo_control = kUartFifosEnableAndClear | kUartInterruptFrom8Bytes;
  uart.modem_control = 0;
  // QEMU checks its serial line when data is read, not when the FIFOs are cleared: this read saves up to a second.
  static_cast<void>(uart.data);
  uart.interrupt_enable = kUartReceiveInterrupt;
}

}  // namespace tmf::bare_metal
