// The storage of this emulated board: a file, by semihosting.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include "../bare_metal/file_storage.hpp"

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

#endif
