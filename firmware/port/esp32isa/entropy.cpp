// The entropy of this emulated board: by simulator calls, that of the machine that runs the emulator.
#include <entropy.hpp>

#include "simulator.hpp"

bool tmf::port::entropy(uint8_t* to, size_t size) {
  using namespace esp32isa::simulator;
  const char source[] = "/dev/urandom";
  const uint32_t file = call(kOpen, address_of(source), kReadOnly);
  if (file == kFailed) return false;
  const uint32_t got = call(kRead, file, address_of(to), size);
  return call(kClose, file) == 0 && got == size;
}
