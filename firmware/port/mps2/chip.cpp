// Start-up and fault report of the MPS2 board: memory protection, and semihosting for messages.
#include "registers.hpp"

#include "../bare_metal/semihosting.hpp"

extern "C" {
// Defined by boards/cortex_m.ld; only their addresses are meaningful.
extern uint32_t stack_guard;
extern uint8_t board_ram_start, board_ram_bytes, board_flash_start, board_flash_bytes, stack_guard_bytes;

void uart0_receive_handler();
}

// Without an emulator or debugger, this instruction locks up the core.
void tmf::bare_metal::semihost(uint32_t operation, uint32_t argument) {
  register uint32_t r0 asm("r0") = operation;
  register uint32_t r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

namespace tmf::cortex_m {

// QEMU's board has 4 MB, this one claims less: without protection an overrun would go unnoticed.
void start_chip() {
  using namespace mps2;
  protect(0, 0x00000000, 0x20000000, Access::kNone);
  protect(1, address_of(&board_flash_start), address_of(&board_flash_bytes), Access::kCode);
  protect(2, 0x20000000, 0x20000000, Access::kNone);
  protect(3, address_of(&board_ram_start), address_of(&board_ram_bytes), Access::kReadWrite);
  protect(4, address_of(&stack_guard), address_of(&stack_guard_bytes), Access::kNone);
  protect(5, kUniqueIdAddress, 1024, Access::kReadOnly);
  enable_protection();
}

extern "C" [[noreturn]] void chip_fault(const uint32_t* frame) {
  using namespace bare_metal;
  const uint32_t status = faults().status;
  const bool stack_overflow = (status & kFaultsWhileStacking) != 0;
  print(stack_overflow ? "mps2: firmware stopped: stack overflow" : "mps2: firmware stopped: fault");
  print_hex(", CFSR 0x", status);
  if ((status & kFaultsMemoryAddressValid) != 0) print_hex(", address 0x", faults().memory_address);
  if ((status & kFaultsBusAddressValid) != 0) print_hex(", address 0x", faults().bus_address);
  if (!stack_overflow) print_hex(", pc 0x", frame[6]);
  print("\n");
  exit_on_error();
  for (;;) sleep();
}

}  // namespace tmf::cortex_m

[[gnu::section(".vectors.interrupts"), gnu::used]] void (*const interrupt_vectors[])() = {
    uart0_receive_handler,  // interrupt 0
};
