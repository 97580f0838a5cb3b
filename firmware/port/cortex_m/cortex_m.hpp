// Registers and functions of every Cortex-M4F chip, and the functions that a chip's folder must define for the start-up code.
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
constexpr uint32_t kMpuNeverExecute = 1u << 28;
enum class Access : uint32_t {
  kNone = 0u << 24 | kMpuNeverExecute,
  kReadWrite = 3u << 24 | kMpuNeverExecute,
  kReadOnly = 6u << 24 | kMpuNeverExecute,
  kCode = 6u << 24,
};

// Fault registers of the system control block.
struct Faults {
  Register status;  // CFSR
  Register hard_status;
  Register debug_status;
  Register memory_address;  // MMFAR
  Register bus_address;     // BFAR
};
constexpr uint32_t kFaultsWhileStacking = 1u << 4 | 1u << 12;  // in status: pushing the exception frame failed
constexpr uint32_t kFaultsMemoryAddressValid = 1u << 7;
constexpr uint32_t kFaultsBusAddressValid = 1u << 15;

inline Mpu& mpu() { return *reinterpret_cast<Mpu*>(0xE000ED90); }
inline Faults& faults() { return *reinterpret_cast<Faults*>(0xE000ED28); }
inline Register& coprocessor_access() { return *reinterpret_cast<Register*>(0xE000ED88); }
inline Register& interrupt_enable() { return *reinterpret_cast<Register*>(0xE000E100); }  // interrupts 0 to 31
inline Register& reset_control() { return *reinterpret_cast<Register*>(0xE000ED0C); }     // AIRCR
constexpr uint32_t kResetSystem = 0x05FAu << 16 | 1u << 2;                                // the write key, and the reset bit

inline uint32_t address_of(const void* symbol) { return reinterpret_cast<uint32_t>(symbol); }

struct InterruptsOff {
  InterruptsOff() { asm volatile("cpsid i" ::: "memory"); }
  ~InterruptsOff() { asm volatile("cpsie i" ::: "memory"); }
  InterruptsOff(const InterruptsOff&) = delete;
  InterruptsOff& operator=(const InterruptsOff&) = delete;
};

// Waits until all earlier writes have reached memory.
inline void finish_writes() { asm volatile("dsb" ::: "memory"); }

inline void reset() {
  finish_writes();
  reset_control() = kResetSystem;
}

// Sets the access rights of a memory region; they apply after enable_protection(). `bytes` must be a power of two and `start` a
// multiple of it. Where regions overlap, the region with the higher number applies.
inline void protect(uint32_t number, uint32_t start, uint32_t bytes, Access access) {
  const uint32_t log2_bytes = 31u - static_cast<uint32_t>(__builtin_clz(bytes));
  mpu().number = number;
  mpu().base = start;
  mpu().attributes = static_cast<uint32_t>(access) | (log2_bytes - 1) << 1 | 1u;
}

// Memory outside all regions keeps its default rights. Every fault leads to the hard fault handler, which runs without
// protection.
inline void enable_protection() {
  mpu().control = kMpuEnable | kMpuKeepDefaultMap;
  asm volatile("dsb\n isb" ::: "memory");
}

// Sleeps until an interrupt is pending. With interrupts off, an interrupt that is already pending ends the sleep at once.
inline void sleep() { asm volatile("wfi" ::: "memory"); }

// --- What a chip's folder implements, besides port.hpp and the vectors of its interrupts in section .vectors.interrupts ---

// Called once, before constructors and main(), for memory protection and errata.
void start_chip();

// Called at every fault, with an empty stack. `frame` is r0-r3, r12, lr, pc, psr as the core pushed them.
extern "C" [[noreturn]] void chip_fault(const uint32_t* frame);

}  // namespace tmf::cortex_m
