// Cortex-M4F start on MPS2: vectors, memory protection, FPU, static data, main(); and what happens on a fault.
#include <cstddef>
#include <cstdint>

#include "registers.hpp"

int main(int argc, char** argv);

extern "C" {
// From boards/mps2.ld; only their addresses mean something.
extern uint32_t data_load, data_start, data_end, bss_start, bss_end, stack_guard, stack_start, stack_end;
extern uint8_t board_ram_start, board_ram_bytes, board_flash_start, board_flash_bytes;
extern void (*init_array_start[])();
extern void (*init_array_end[])();

[[noreturn]] void reset_handler();
void fault_handler();
void uart0_receive_handler();
}

namespace tmf::mps2 {
namespace {

constexpr uint32_t kStackPaint = 0xC5C5C5C5;  // what is still painted has never been stack
constexpr uint32_t kStackGuardBytes = 1024;   // the emulator's smallest page: finer protection slows it down

enum class Access : uint32_t { kNone = 0u << 24, kReadWrite = 3u << 24, kReadOnly = 6u << 24 };
constexpr uint32_t kNeverExecute = 1u << 28;

struct ProtectedRegion {
  uint32_t start;
  uint32_t bytes;  // a power of two, `start` a multiple of it
  uint32_t attributes;
};

uint32_t address_of(const void* symbol) { return reinterpret_cast<uint32_t>(symbol); }

// QEMU's board has 4 MB where this one claims less: without walls an overrun would pass unseen. Later regions win.
void protect_memory() {
  const ProtectedRegion regions[] = {
      {0x00000000, 0x20000000, static_cast<uint32_t>(Access::kNone) | kNeverExecute},
      {address_of(&board_flash_start), address_of(&board_flash_bytes), static_cast<uint32_t>(Access::kReadOnly)},
      {0x20000000, 0x20000000, static_cast<uint32_t>(Access::kNone) | kNeverExecute},
      {address_of(&board_ram_start), address_of(&board_ram_bytes), static_cast<uint32_t>(Access::kReadWrite) | kNeverExecute},
      {address_of(&stack_guard), kStackGuardBytes, static_cast<uint32_t>(Access::kNone) | kNeverExecute},
      {kUniqueIdAddress, 1024, static_cast<uint32_t>(Access::kReadOnly) | kNeverExecute},
  };
  uint32_t number = 0;
  for (const ProtectedRegion& region : regions) {
    const uint32_t log2_bytes = 31u - static_cast<uint32_t>(__builtin_clz(region.bytes));
    mpu().number = number++;
    mpu().base = region.start;
    mpu().attributes = region.attributes | (log2_bytes - 1) << 1 | 1u;
  }
  // Peripherals keep the default map. Every fault ends in the hard fault's handler, which runs unprotected.
  mpu().control = kMpuEnable | kMpuKeepDefaultMap;
  asm volatile("dsb\n isb" ::: "memory");
}

// Semihosting: the emulator (or a debugger) does `operation` for us; without one this locks up the core, which is as loud.
void semihost(uint32_t operation, uint32_t argument) {
  register uint32_t r0 asm("r0") = operation;
  register uint32_t r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}
constexpr uint32_t kSemihostWriteText = 0x04;
constexpr uint32_t kSemihostExit = 0x18;
constexpr uint32_t kExitedOnError = 0x20023;

void print(const char* text) { semihost(kSemihostWriteText, address_of(text)); }

void print_hex(const char* name, uint32_t value) {
  char digits[] = "00000000";
  for (int i = 7; i >= 0; --i, value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  print(name);
  print(digits);
}

}  // namespace

// `frame`: r0-r3, r12, lr, pc, psr as the core pushed them.
extern "C" [[noreturn]] void report_fault(const uint32_t* frame) {
  const uint32_t status = faults().status;
  const bool stack_overflow = (status & kFaultsWhileStacking) != 0;
  print(stack_overflow ? "mps2: firmware stopped: stack overflow" : "mps2: firmware stopped: fault");
  print_hex(", CFSR 0x", status);
  if ((status & kFaultsMemoryAddressValid) != 0) print_hex(", address 0x", faults().memory_address);
  if ((status & kFaultsBusAddressValid) != 0) print_hex(", address 0x", faults().bus_address);
  if (!stack_overflow) print_hex(", pc 0x", frame[6]);
  print("\n");
  semihost(kSemihostExit, kExitedOnError);
  for (;;) asm volatile("wfi");
}

}  // namespace tmf::mps2

extern "C" {

// Moves to the stack's top first: after a stack overflow there is nothing to push on.
[[gnu::naked]] void fault_handler() {
  asm volatile(
      "mrs r0, msp\n"
      "ldr r1, =stack_end\n"
      "mov sp, r1\n"
      "b report_fault\n");
}

[[noreturn]] void reset_handler() {
  using namespace tmf::mps2;
  coprocessor_access() = coprocessor_access() | 0xFu << 20;
  asm volatile("dsb\n isb" ::: "memory");
  const uint32_t* from = &data_load;
  for (uint32_t* to = &data_start; to != &data_end;) *to++ = *from++;
  for (uint32_t* to = &bss_start; to != &bss_end;) *to++ = 0;
  auto* stack_in_use = static_cast<uint32_t*>(__builtin_frame_address(0)) - 16;
  for (uint32_t* to = &stack_start; to < stack_in_use;) *to++ = kStackPaint;
  protect_memory();
  for (auto constructor = init_array_start; constructor != init_array_end; ++constructor) (*constructor)();
  main(0, nullptr);
  for (;;) asm volatile("wfi");
}

}  // extern "C"

using Vector = void (*)();

[[gnu::section(".vectors"), gnu::used]] const Vector vectors[] = {
    reinterpret_cast<Vector>(&stack_end),
    reset_handler,
    fault_handler,  // NMI
    fault_handler,  // hard fault
    fault_handler,  // memory management
    fault_handler,  // bus
    fault_handler,  // usage
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    fault_handler,  // supervisor call
    fault_handler,  // debug monitor
    nullptr,
    fault_handler,          // PendSV
    fault_handler,          // SysTick
    uart0_receive_handler,  // interrupt 0
};
