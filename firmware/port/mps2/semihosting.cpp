// Semihosting on this emulated board: how the emulator is asked for its files.
#include "../bare_metal/host_files.hpp"

uint32_t tmf::bare_metal::ask(uint32_t operation, uint32_t argument) {
  register uint32_t r0 asm("r0") = operation;
  register uint32_t r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}
