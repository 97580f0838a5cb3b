// Semihosting on this emulated board: how the emulator is asked for its files, and to print text.
#include "../bare_metal/semihosting.hpp"

#include "../bare_metal/host_files.hpp"

uint32_t tmf::bare_metal::ask(uint32_t operation, uint32_t argument) {
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
  return a0;
}

void tmf::bare_metal::semihost(uint32_t operation, uint32_t argument) { static_cast<void>(ask(operation, argument)); }
