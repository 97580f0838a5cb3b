// Semihosting: an emulator or debugger prints text for the firmware and ends the program.
#pragma once

#include <cstdint>

namespace tmf::bare_metal {

// Requests `operation` from the emulator or debugger; each chip implements it with its own instruction.
void semihost(uint32_t operation, uint32_t argument);

constexpr uint32_t kSemihostWriteText = 0x04;
constexpr uint32_t kSemihostExit = 0x18;
constexpr uint32_t kExitedOnError = 0x20023;

inline void print(const char* text) { semihost(kSemihostWriteText, reinterpret_cast<uint32_t>(text)); }

inline void print_hex(const char* name, uint32_t value) {
  char digits[] = "00000000";
  for (int i = 7; i >= 0; --i, value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  print(name);
  print(digits);
}

inline void exit_on_error() { semihost(kSemihostExit, kExitedOnError); }

}  // namespace tmf::bare_metal
