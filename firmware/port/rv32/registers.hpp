// Registers of QEMU's RISC-V `virt` machine that this port uses, and the core's interrupt switch.
#pragma once

#include <cstdint>

#include "../bare_metal/ns16550.hpp"

namespace tmf::rv32 {

using Register = volatile uint32_t;

using Uart = bare_metal::Ns16550<uint8_t>;
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
