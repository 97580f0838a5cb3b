// Start-up and faults of the nRF52840: protects flash and stack guard; a fault resets the chip, and the host reconnects.
#include "registers.hpp"

extern "C" {
// Defined by boards/cortex_m.ld; only their addresses are meaningful.
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

// There is nowhere to print a message. After the reset, the board's answers show that it has no session, and the host begins
// the round again.
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
