// The entropy of emulated boards: by semihosting, that of the machine that runs the emulator. Included by one file of a board.
#pragma once

#include <entropy.hpp>

#include "host_files.hpp"

bool tmf::port::entropy(uint8_t* to, size_t size) {
  using namespace bare_metal;
  char source[] = "/dev/urandom";
  const uint32_t file = open_file({source, sizeof source - 1}, kReadOnly);
  if (file == kFailed) return false;
  const uint32_t left = call(kSemihostRead, file, address_of(to), size);  // bytes that were not read
  asm volatile("" ::: "memory");                                          // the emulator has written behind the compiler's back
  const uint32_t closed = call(kSemihostClose, file);
  return left == 0 && closed == 0;
}
