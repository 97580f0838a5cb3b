// Files of the machine that runs the emulator, by semihosting. The emulator is given the path of the file that stands for the flash
// as the second word of the program's command line; a recording has the same path with ".rows" behind it.
#pragma once

#include <cstdint>

namespace tmf::bare_metal {

// Requests `operation` from the emulator and returns its result; each chip implements it with its own instruction.
uint32_t ask(uint32_t operation, uint32_t argument);

constexpr uint32_t kSemihostOpen = 0x01;
constexpr uint32_t kSemihostClose = 0x02;
constexpr uint32_t kSemihostWrite = 0x05;
constexpr uint32_t kSemihostRead = 0x06;
constexpr uint32_t kSemihostSeek = 0x0A;
constexpr uint32_t kSemihostCommandLine = 0x15;
constexpr uint32_t kReadOnly = 1;      // "rb"
constexpr uint32_t kReadAndWrite = 3;  // "r+b"
constexpr uint32_t kFailed = 0xFFFFFFFF;
constexpr uint32_t kLongestPath = 384;  // with the word before it

[[gnu::noinline]] inline uint32_t call(uint32_t operation, uint32_t first, uint32_t second = 0, uint32_t third = 0) {
  const volatile uint32_t arguments[3] = {first, second, third};
  return ask(operation, reinterpret_cast<uint32_t>(arguments));
}

inline uint32_t address_of(const void* data) { return reinterpret_cast<uint32_t>(data); }

// A path within a buffer of kLongestPath bytes, which ends with a zero.
struct Path {
  char* text;  // nullptr: there is none
  uint32_t size;
};

// The path that the emulator was given.
inline Path given_path(char* words) {
  volatile uint32_t line[2] = {address_of(words), kLongestPath};
  if (ask(kSemihostCommandLine, reinterpret_cast<uint32_t>(line)) != 0) return {nullptr, 0};
  asm volatile("" ::: "memory");
  const uint32_t end = line[1];
  uint32_t start = 0;  // of the second word, which goes on to the end
  while (start < end && words[start++] != ' ') {
  }
  if (start == end) return {nullptr, 0};
  return {words + start, end - start};
}

inline uint32_t open_file(const Path& path, uint32_t mode) {
  return call(kSemihostOpen, address_of(path.text), mode, path.size);
}

}  // namespace tmf::bare_metal
