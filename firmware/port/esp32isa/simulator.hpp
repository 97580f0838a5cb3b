// Files of the machine that runs the emulator, by simulator calls. The emulator is given the path of the file that stands for the
// flash as the second argument of the program; a recording has the same path with ".rows" behind it.
#pragma once

#include <cstdint>

namespace tmf::esp32isa::simulator {

constexpr uint32_t kRead = 3;
constexpr uint32_t kWrite = 4;
constexpr uint32_t kOpen = 5;
constexpr uint32_t kClose = 6;
constexpr uint32_t kSeek = 19;
constexpr uint32_t kArgumentCount = 1000;
constexpr uint32_t kArgumentBytes = 1001;
constexpr uint32_t kArguments = 1002;
constexpr uint32_t kReadOnly = 0;  // flags of open() on Linux
constexpr uint32_t kReadAndWrite = 2;
constexpr uint32_t kCreate = 0100;
constexpr uint32_t kFromStart = 0;
constexpr uint32_t kFromEnd = 2;
constexpr uint32_t kFailed = 0xFFFFFFFF;
constexpr uint32_t kPathWords = 96;  // of a buffer for the arguments: their addresses, then the texts

inline uint32_t call(uint32_t operation, uint32_t first = 0, uint32_t second = 0, uint32_t third = 0) {
  register uint32_t a2 asm("a2") = operation;
  register uint32_t a3 asm("a3") = first;
  register uint32_t a4 asm("a4") = second;
  register uint32_t a5 asm("a5") = third;
  asm volatile(".byte 0x00, 0x51, 0x00" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");  // simcall
  return a2;
}

inline uint32_t address_of(const void* data) { return reinterpret_cast<uint32_t>(data); }

// The path that the emulator was given, within a buffer of kPathWords; nullptr if there is none.
inline const char* given_path(uint32_t* buffer) {
  if (call(kArgumentCount) < 2 || call(kArgumentBytes) > sizeof(uint32_t) * kPathWords) return nullptr;
  call(kArguments, address_of(buffer));
  return reinterpret_cast<const char*>(buffer[1]);
}

}  // namespace tmf::esp32isa::simulator
