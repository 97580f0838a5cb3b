// What every Cortex-M4F chip has, and what its own folder adds to the start-up code here.
#pragma once

#include <cstdint>

namespace tmf::cortex_m {

using Register = volatile uint32_t;

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

inline Mpu& mpu() { return *reinterpret_cast<Mpu*>(0xE000ED90); }
inline Faults& faults() { return *reinterpret_cast<Faults*>(0xE000ED28); }
inline Register& coprocessor_access() { return *reinterpret_cast<Register*>(0xE000ED88); }
inline Register& interrupt_enable() { return *reinterpret_cast<Register*>(0xE000E100); }  // interrupts 0 to 31

inline uint32_t address_of(const void* symbol) { return reinterpret_cast<uint32_t>(symbol); }

struct InterruptsOff {
  InterruptsOff() { asm volatile("cpsid i" ::: "memory"); }
  ~InterruptsOff() { asm volatile("cpsie i" ::: "memory"); }
  InterruptsOff(const InterruptsOff&) = delete;
  InterruptsOff& operator=(const InterruptsOff&) = delete;
};

// Sleeps until an interrupt is pending; with interrupts off, one that comes before is not lost.
inline void sleep() { asm volatile("wfi" ::: "memory"); }

// --- What a chip's folder implements, besides port.hpp and the vectors of its interrupts in section .vectors.interrupts ---

// Runs once, before constructors and main(): memory protection, errata.
void start_chip();

// The end of every fault; `frame` is r0-r3, r12, lr, pc, psr as the core pushed them. The stack starts anew.
extern "C" [[noreturn]] void chip_fault(const uint32_t* frame);

}  // namespace tmf::cortex_m
