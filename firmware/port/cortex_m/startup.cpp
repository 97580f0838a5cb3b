// Cortex-M4F start: the core's vectors, FPU, static data, painted stack, main().
#include <cstddef>
#include <cstdint>

#include "cortex_m.hpp"

int main(int argc, char** argv);

extern "C" {
// From the board's linker script; only their addresses mean something.
extern uint32_t data_load, data_start, data_end, bss_start, bss_end, stack_start, stack_end;
extern void (*init_array_start[])();
extern void (*init_array_end[])();

constexpr uint32_t kStackPaint = 0xC5C5C5C5;  // what is still painted has never been stack

// Moves to the stack's top first: after a stack overflow there is nothing to push on.
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
  const uint32_t* from = &data_load;
  for (uint32_t* to = &data_start; to != &data_end;) *to++ = *from++;
  for (uint32_t* to = &bss_start; to != &bss_end;) *to++ = 0;
  auto* stack_in_use = static_cast<uint32_t*>(__builtin_frame_address(0)) - 16;
  for (uint32_t* to = &stack_start; to < stack_in_use;) *to++ = kStackPaint;
  start_chip();
  for (auto constructor = init_array_start; constructor != init_array_end; ++constructor) (*constructor)();
  main(0, nullptr);
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
