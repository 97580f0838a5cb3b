// The part of QEMU's lx60 board that this port uses: the UART and the address of the unique id.
#pragma once

#include <cstdint>

namespace tmf::esp32isa {

using Register = volatile uint32_t;

// NS16550 UART with 16-byte FIFOs.
struct Uart {
  Register data;              // DLL while the divisor is open
  Register interrupt_enable;  // DLM while the divisor is open
  Register fifo_control;
  Register line_control;
  Register modem_control;
  Register line_status;
};
constexpr uint32_t kUartReceiveInterruptEnable = 1u << 0;  // in interrupt_enable
constexpr uint32_t kUartFifosEnableAndClear = 0x07;        // in fifo_control
constexpr uint32_t kUartInterruptFrom8Bytes = 2u << 6;     // or after a pause of four bytes' time
constexpr uint32_t kUart8Bits = 3u << 0;                   // in line_control
constexpr uint32_t kUartDivisorOpen = 1u << 7;
constexpr uint32_t kUartLoopBack = 1u << 4;  // in modem_control
constexpr uint32_t kUartReceived = 1u << 0;  // in line_status
constexpr uint32_t kUartTransmitterHasRoom = 1u << 5;

inline Uart& uart() { return *reinterpret_cast<Uart*>(0xFD050020); }  // also in vectors.s
constexpr uint32_t kUartInterrupt = 1u << 0;

// Eight bytes outside the board's RAM, written by the emulator's loader; they stand for a real chip's factory-set number.
constexpr uint32_t kUniqueIdAddress = 0x00D00000;

}  // namespace tmf::esp32isa
