// The nRF52840 at its start and at a fault: flash and stack guard protected, and a reset, after which the host finds it again.
#include "registers.hpp"

extern "C" {
// From boards/cortex_m.ld; only their addresses mean something.
extern uint32_t stack_guard;
extern uint8_t board_flash_start, board_flash_bytes, stack_guard_bytes;

void uarte0_handler();
}

namespace tmf::cortex_m {

void start_chip() {
  protect(0, address_of(&board_flash_start), address_of(&board_flash_bytes), Access::kCode);
  protect(1, address_of(&stack_guard), address_of(&stack_guard_bytes), Access::kNone);
  enable_protection();
}

// Nobody is there to be told. Reset, the board says that it has forgotten its round, and the host begins it anew.
extern "C" [[noreturn]] void chip_fault(const uint32_t*) {
  reset();
  for (;;) {
  }
}

}  // namespace tmf::cortex_m

[[gnu::section(".vectors.interrupts"), gnu::used]] void (*const interrupt_vectors[])() = {
    nullptr,
    nullptr,
    uarte0_handler,  // interrupt 2
};
