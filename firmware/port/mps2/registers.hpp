// Registers of the MPS2 board with FPGA image AN386 that this port uses; addresses from Arm's DAI 0386.
#pragma once

#include "../cortex_m/cortex_m.hpp"

namespace tmf::mps2 {

using cortex_m::Register;

// CMSDK UART with a buffer of one byte in each direction.
struct Uart {
  Register data;
  Register state;
  Register control;
  Register interrupts;  // read: pending; write: clear
  Register divisor;
};
constexpr uint32_t kUartTransmitFull = 1u << 0;  // in state
constexpr uint32_t kUartReceiveFull = 1u << 1;
constexpr uint32_t kUartTransmitEnable = 1u << 0;  // in control
constexpr uint32_t kUartReceiveEnable = 1u << 1;
constexpr uint32_t kUartReceiveInterruptEnable = 1u << 3;
constexpr uint32_t kUartReceiveInterrupt = 1u << 1;  // in interrupts
constexpr uint32_t kUartMinDivisor = 16;

// CMSDK timer: counts down to zero and starts again from `reload`.
struct Timer {
  Register control;
  Register value;
  Register reload;
};
constexpr uint32_t kTimerEnable = 1u << 0;

inline Uart& uart0() { return *reinterpret_cast<Uart*>(0x40004000); }
inline Timer& timer0() { return *reinterpret_cast<Timer*>(0x40000000); }
constexpr uint32_t kUart0ReceiveInterruptNumber = 0;

// Eight bytes of PSRAM, written by the emulator's loader; they stand for a real chip's factory-set number.
constexpr uint32_t kUniqueIdAddress = 0x21000000;

}  // namespace tmf::mps2
