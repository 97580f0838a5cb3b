// Registers of QEMU's RISC-V `virt` machine that this port uses, and the core's interrupt switch.
#pragma once

#include <cstdint>

namespace tmf::rv32 {

using Register = volatile uint32_t;
using ByteRegister = volatile uint8_t;

// NS16550 UART with 16-byte FIFOs.
struct Uart {
  ByteRegister data;              // DLL while the divisor is open
  ByteRegister interrupt_enable;  // DLM while the divisor is open
  ByteRegister fifo_control;
  ByteRegister line_control;
  ByteRegister modem_control;
  ByteRegister line_status;
};
constexpr uint8_t kUartReceiveInterrupt = 1u << 0;  // in interrupt_enable
constexpr uint8_t kUartFifosEnableAndClear = 0x07;  // in fifo_control
constexpr uint8_t kUartInterruptFrom8Bytes = 2u << 6;  // or after a pause of four bytes' time
constexpr uint8_t kUart8Bits = 3u << 0;  // in line_control
constexpr uint8_t kUartDivisorOpen = 1u << 7;
constexpr uint8_t kUartLoopBack = 1u << 4;  // in modem_control
constexpr uint8_t kUartReceived = 1u << 0;  // in line_status
constexpr uint8_t kUartTransmitterHasRoom = 1u << 5;

inline Uart& uart() { return *reinterpret_cast<Uart*>(0x10000000); }
constexpr uint32_t kUartInterruptNumber = 10;

// Interrupt controller (PLIC), registers of hart 0 in machine mode.
inline Register& interrupt_priority(uint32_t number) { return *reinterpret_cast<Register*>(0x0C000000 + 4 * number); }
inline Register& interrupt_enable() { return *reinterpret_cast<Register*>(0x0C002000); }  // interrupts 0 to 31
inline Register& interrupt_threshold() { return *reinterpret_cast<Register*>(0x0C200000); }
inline Register& interrupt_claim() { return *reinterpret_cast<Register*>(0x0C200004); }  // read: claim; write: complete

inline Register& machine_time() { return *reinterpret_cast<Register*>(0x0200BFF8); }  // mtime's low word, 10 MHz

// Eight bytes outside the board's RAM, written by the emulator's loader; they stand for a real chip's factory-set number.
constexpr uint32_t kUniqueIdAddress = 0x80580000;

constexpr uint32_t kMachineInterruptEnable = 1u << 3;  // MIE in mstatus
constexpr uint32_t kMachineExternalInterruptEnable = 1u << 11;  // MEIE in mie

struct InterruptsOff {
  InterruptsOff() { asm volatile("csrci mstatus, %0" ::"i"(kMachineInterruptEnable) : "memory"); }
  ~InterruptsOff() { asm volatile("csrsi mstatus, %0" ::"i"(kMachineInterruptEnable) : "memory"); }
  InterruptsOff(const InterruptsOff&) = delete;
  InterruptsOff& operator=(const InterruptsOff&) = delete;
};

// Sleeps until an interrupt is pending. With interrupts off, an interrupt that is already pending ends the sleep at once.
inline void sleep() { asm volatile("wfi" ::: "memory"); }

}  // namespace tmf::rv32
