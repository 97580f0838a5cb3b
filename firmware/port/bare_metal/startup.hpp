// Start-up code common to all bare-metal chips, after the stack is set: static data, stack painting, constructors, main().
#pragma once

#include <cstdint>

int main(int argc, char** argv);

extern "C" {
// Defined by the board's linker script; only their addresses are meaningful.
extern uint32_t data_load, data_start, data_end, bss_start, bss_end, stack_start;
extern void (*init_array_start[])();
extern void (*init_array_end[])();
}

namespace tmf::bare_metal {

constexpr uint32_t kStackPaint = 0xC5C5C5C5;  // memory that still has this value was never used; `bench memory` reads it

// Inlined, so that the stack in use ends just below the caller's frame.
[[gnu::always_inline]] inline void prepare_memory() {
  const uint32_t* from = &data_load;
  for (uint32_t* to = &data_start; to != &data_end;) *to++ = *from++;
  for (uint32_t* to = &bss_start; to != &bss_end;) *to++ = 0;
  auto* stack_in_use = static_cast<uint32_t*>(__builtin_frame_address(0)) - 16;
  for (uint32_t* to = &stack_start; to < stack_in_use;) *to++ = kStackPaint;
}

inline void run() {
  for (auto constructor = init_array_start; constructor != init_array_end; ++constructor) (*constructor)();
  main(0, nullptr);
}

}  // namespace tmf::bare_metal
