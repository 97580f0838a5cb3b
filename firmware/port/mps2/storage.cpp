// The storage of this emulated board: a file, by semihosting.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include "../bare_metal/file_storage.hpp"

uint32_t tmf::bare_metal::ask(uint32_t operation, uint32_t argument) {
  register uint32_t r0 asm("r0") = operation;
  register uint32_t r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

#endif
