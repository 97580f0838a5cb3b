// Registers of the MPS2 board with FPGA image AN386 that this port uses; addresses from Arm's DAI 0386 and ARMv7-M manuals.
#pragma once

#include <cstdint>

namespace tmf::mps2 {

using Register = volatile uint32_t;

// CMSDK UART: one byte of buffer in each direction.
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

// ARMv7-M memory protection unit.
struct Mpu {
  Register type;
  Register control;
  Register number;
  Register base;
  Register attributes;
};
constexpr uint32_t kMpuEnable = 1u << 0;
constexpr uint32_t kMpuKeepDefaultMap = 1u << 2;

// System control block, the part about faults.
struct Faults {
  Register status;  // CFSR
  Register hard_status;
  Register debug_status;
  Register memory_address;  // MMFAR
  Register bus_address;     // BFAR
};
constexpr uint32_t kFaultsWhileStacking = 1u << 4 | 1u << 12;  // in status: the stack could not take the frame
constexpr uint32_t kFaultsMemoryAddressValid = 1u << 7;
constexpr uint32_t kFaultsBusAddressValid = 1u << 15;

inline Uart& uart0() { return *reinterpret_cast<Uart*>(0x40004000); }
inline Timer& timer0() { return *reinterpret_cast<Timer*>(0x40000000); }
inline Mpu& mpu() { return *reinterpret_cast<Mpu*>(0xE000ED90); }
inline Faults& faults() { return *reinterpret_cast<Faults*>(0xE000ED28); }
inline Register& coprocessor_access() { return *reinterpret_cast<Register*>(0xE000ED88); }
inline Register& interrupt_enable() { return *reinterpret_cast<Register*>(0xE000E100); }
constexpr uint32_t kUart0ReceiveInterruptNumber = 0;

// Not the board's: eight bytes of PSRAM that the emulator's loader fills, where silicon would have a factory-set number.
constexpr uint32_t kUniqueIdAddress = 0x21000000;

}  // namespace tmf::mps2
