// Start-up and fault report of the RV32 board: traps, static data, painted stack, memory protection, main().
#include <cstddef>
#include <cstdint>

#include "../bare_metal/semihosting.hpp"
#include "../bare_metal/startup.hpp"
#include "registers.hpp"

extern "C" {
// Defined by boards/rv32.ld; only their addresses are meaningful.
extern uint8_t board_flash_start, board_flash_bytes, board_ram_start, board_ram_bytes, stack_guard_bytes;

[[noreturn, gnu::used]] void start();
[[noreturn, gnu::used]] void fault(uint32_t cause, uint32_t address, uint32_t pc);
void external_interrupt_handler();

// The emulator starts with the program's first byte.
[[gnu::naked, gnu::section(".reset")]] void reset_handler() {
  asm volatile(
      ".option push\n"
      ".option norelax\n"  // gp is not set yet, so the linker must not use it
      "la gp, __global_pointer$\n"
      ".option pop\n"
      "la sp, stack_end\n"
      "la t0, trap_vectors\n"
      "ori t0, t0, 1\n"  // vectored mode: a fault goes to entry 0, interrupt n to entry n
      "csrw mtvec, t0\n"
      "j start\n");
}

// A fault sets the stack pointer to the stack's top first: after a stack overflow there is no room to push anything.
[[gnu::naked, gnu::used, gnu::aligned(64)]] void trap_vectors() {
  asm volatile(
      ".option push\n"
      ".option norvc\n"  // entries of four bytes
      "j 1f\n"
      ".rept 10\n"
      "j 1f\n"
      ".endr\n"
      "j external_interrupt_handler\n"
      ".option pop\n"
      "1: la sp, stack_end\n"
      "csrr a0, mcause\n"
      "csrr a1, mtval\n"
      "csrr a2, mepc\n"
      "j fault\n");
}
}

namespace tmf::rv32 {
namespace {

uint32_t address_of(const void* symbol) { return reinterpret_cast<uint32_t>(symbol); }

enum Access : uint32_t { kNone = 0, kRead = 1, kWrite = 2, kExecute = 4 };
constexpr uint32_t kUpToAddress = 1u << 3;  // from the previous entry's address to this one's
constexpr uint32_t kLocked = 1u << 7;       // holds in machine mode too

// Sets one entry of the physical memory protection (PMP). The lowest entry that matches an address applies.
template <uint32_t kNumber>
void protect_up_to(uint32_t end, uint32_t access) {
  const uint32_t address = end == 0 ? 0xFFFFFFFF : end >> 2;  // 0: to the end of the address space
  const uint32_t shift = 8 * (kNumber % 4);
  asm volatile("csrw %0, %1" ::"i"(0x3B0 + kNumber), "r"(address));
  asm volatile("csrs %0, %1" ::"i"(0x3A0 + kNumber / 4), "r"((kUpToAddress | kLocked | access) << shift));
}

// QEMU's board has 8 MB, this one claims less: without protection an overrun would go unnoticed.
void protect_memory() {
  const uint32_t flash = address_of(&board_flash_start), ram = address_of(&board_ram_start);
  protect_up_to<0>(0x02000000, kNone);  // a null pointer
  protect_up_to<1>(0x10001000, kRead | kWrite);  // timer, interrupt controller, UART
  protect_up_to<2>(flash, kNone);
  protect_up_to<3>(flash + address_of(&board_flash_bytes), kRead | kExecute);
  protect_up_to<4>(ram, kNone);
  protect_up_to<5>(ram + address_of(&board_ram_bytes), kRead | kWrite);
  protect_up_to<6>(kUniqueIdAddress, kNone);
  protect_up_to<7>(kUniqueIdAddress + 4096, kRead);
  protect_up_to<8>(0, kNone);
}

}  // namespace
}  // namespace tmf::rv32

void start() {
  using namespace tmf::rv32;
  tmf::bare_metal::prepare_memory();
  protect_memory();
  tmf::bare_metal::run();
  for (;;) sleep();
}

void fault(uint32_t cause, uint32_t address, uint32_t pc) {
  using namespace tmf::rv32;
  using namespace tmf::bare_metal;
  const uint32_t stack_guard = address_of(&stack_start) - address_of(&stack_guard_bytes);
  const bool stack_overflow = address - stack_guard < address_of(&stack_guard_bytes);
  print(stack_overflow ? "rv32: firmware stopped: stack overflow" : "rv32: firmware stopped: fault");
  print_hex(", cause 0x", cause);
  print_hex(", address 0x", address);
  print_hex(", pc 0x", pc);
  print("\n");
  exit_on_error();
  for (;;) sleep();
}
