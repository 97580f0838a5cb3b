// RV32 start and fault: traps, walls around the memory that the board claims, static data, painted stack, main().
#include <cstddef>
#include <cstdint>

#include "registers.hpp"

int main(int argc, char** argv);

extern "C" {
// From boards/rv32.ld; only their addresses mean something.
extern uint8_t board_flash_start, board_flash_bytes, board_ram_start, board_ram_bytes, stack_guard_bytes;
extern uint32_t data_load, data_start, data_end, bss_start, bss_end, stack_start, stack_end;
extern void (*init_array_start[])();
extern void (*init_array_end[])();

[[noreturn, gnu::used]] void start();
[[noreturn, gnu::used]] void fault(uint32_t cause, uint32_t address, uint32_t pc);
void external_interrupt_handler();

// The emulator starts at the first byte of the program.
[[gnu::naked, gnu::section(".reset")]] void reset_handler() {
  asm volatile(
      ".option push\n"
      ".option norelax\n"  // while gp is not set, nothing may be reached through it
      "la gp, __global_pointer$\n"
      ".option pop\n"
      "la sp, stack_end\n"
      "la t0, trap_vectors\n"
      "ori t0, t0, 1\n"  // vectored: a fault takes the first entry, interrupt number n the entry n
      "csrw mtvec, t0\n"
      "j start\n");
}

// Moves to the stack's top first: after a stack overflow there is nothing to push on.
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

constexpr uint32_t kStackPaint = 0xC5C5C5C5;  // what is still painted has never been stack

uint32_t address_of(const void* symbol) { return reinterpret_cast<uint32_t>(symbol); }

enum Access : uint32_t { kNone = 0, kRead = 1, kWrite = 2, kExecute = 4 };
constexpr uint32_t kUpToAddress = 1u << 3;  // from the entry before up to this one's address
constexpr uint32_t kLocked = 1u << 7;       // holds in machine mode too

// One entry of the physical memory protection (PMP): the lowest that matches an address decides.
template <uint32_t kNumber>
void protect_up_to(uint32_t end, uint32_t access) {
  const uint32_t address = end == 0 ? 0xFFFFFFFF : end >> 2;  // 0: the end of the address space and beyond
  const uint32_t shift = 8 * (kNumber % 4);
  asm volatile("csrw %0, %1" ::"i"(0x3B0 + kNumber), "r"(address));
  asm volatile("csrs %0, %1" ::"i"(0x3A0 + kNumber / 4), "r"((kUpToAddress | kLocked | access) << shift));
}

// QEMU's board has 8 MB where this one claims less: without walls an overrun would pass unseen.
void wall_in() {
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

// Semihosting: the emulator (or a debugger) does `operation` for us.
void semihost(uint32_t operation, uint32_t argument) {
  register uint32_t a0 asm("a0") = operation;
  register uint32_t a1 asm("a1") = argument;
  asm volatile(
      ".balign 16\n"  // the three instructions must lie in one page
      ".option push\n"
      ".option norvc\n"
      "slli x0, x0, 0x1f\n"
      "ebreak\n"
      "srai x0, x0, 7\n"
      ".option pop\n"
      : "+r"(a0)
      : "r"(a1)
      : "memory");
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
}  // namespace tmf::rv32

void start() {
  using namespace tmf::rv32;
  const uint32_t* from = &data_load;
  for (uint32_t* to = &data_start; to != &data_end;) *to++ = *from++;
  for (uint32_t* to = &bss_start; to != &bss_end;) *to++ = 0;
  auto* stack_in_use = static_cast<uint32_t*>(__builtin_frame_address(0)) - 16;
  for (uint32_t* to = &stack_start; to < stack_in_use;) *to++ = kStackPaint;
  wall_in();
  for (auto constructor = init_array_start; constructor != init_array_end; ++constructor) (*constructor)();
  main(0, nullptr);
  for (;;) sleep();
}

void fault(uint32_t cause, uint32_t address, uint32_t pc) {
  using namespace tmf::rv32;
  const uint32_t stack_guard = address_of(&stack_start) - address_of(&stack_guard_bytes);
  const bool stack_overflow = address - stack_guard < address_of(&stack_guard_bytes);
  print(stack_overflow ? "rv32: firmware stopped: stack overflow" : "rv32: firmware stopped: fault");
  print_hex(", cause 0x", cause);
  print_hex(", address 0x", address);
  print_hex(", pc 0x", pc);
  print("\n");
  semihost(kSemihostExit, kExitedOnError);
  for (;;) sleep();
}
