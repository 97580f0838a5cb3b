// Start-up of a Cortex-M4F: vector table, FPU, static data, painted stack, main().
#include <cstddef>
#include <cstdint>

#include "../bare_metal/startup.hpp"
#include "cortex_m.hpp"

extern "C" {
extern uint32_t stack_end;  // defined by the board's linker script; only its address is meaningful

// Sets the stack pointer to the stack's top first: after a stack overflow there is no room to push anything.
[[gnu::naked]] void fault_handler() {
  asm volatile(
      "mrs r0, msp\n"
      "ldr r1, =stack_end\n"
      "mov sp, r1\n"
      "b chip_fault\n");
}

[[noreturn]] void reset_handler() {
  using namespace tmf::cortex_m;
  coprocessor_access() = coprocessor_access() | 0xFu << 20;
  asm volatile("dsb\n isb" ::: "memory");
  tmf::bare_metal::prepare_memory();
  start_chip();
  tmf::bare_metal::run();
  for (;;) sleep();
}

}  // extern "C"

using Vector = void (*)();

[[gnu::section(".vectors"), gnu::used]] const Vector vectors[16] = {
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
    fault_handler,  // PendSV
    fault_handler,  // SysTick
};
