// The part of QEMU's lx60 board that this port uses: the UART and the address of the unique id.
#pragma once

#include <cstdint>

namespace tmf::esp32isa {

using Register = volatile uint32_t;

// 16550 UART with its FIFOs off: a buffer of one byte in each direction. Turning the FIFOs on would discard received bytes.
struct Uart {
  Register data;
  Register interrupt_enable;
  Register fifo_control;
  Register line_control;
  Register modem_control;
  Register line_status;
};
constexpr uint32_t kUartReceiveInterruptEnable = 1u << 0;  // in interrupt_enable
constexpr uint32_t kUartTransmitEmpty = 1u << 5;           // in line_status

inline Uart& uart() { return *reinterpret_cast<Uart*>(0xFD050020); }  // also in vectors.s
constexpr uint32_t kUartInterrupt = 1u << 0;

// Eight bytes outside the board's RAM, written by the emulator's loader; they stand for a real chip's factory-set number.
constexpr uint32_t kUniqueIdAddress = 0x00D00000;

}  // namespace tmf::esp32isa
