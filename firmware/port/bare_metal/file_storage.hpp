// The storage functions of emulated boards: by semihosting, a file of the machine that runs the emulator is the flash.
//
// The file exists and is as large as the flash; the second word of the program's command line is its path. Included by one file of a board.
#pragma once

#include <cstdint>
#include <cstring>

#include <store_facts.hpp>

#include <store/storage.hpp>

namespace tmf::bare_metal {

// Requests `operation` from the emulator and returns its result; each chip implements it with its own instruction.
uint32_t ask(uint32_t operation, uint32_t argument);

}  // namespace tmf::bare_metal

namespace tmf::port::storage {
namespace {

using bare_metal::ask;

constexpr uint32_t kSemihostOpen = 0x01;
constexpr uint32_t kSemihostWrite = 0x05;
constexpr uint32_t kSemihostRead = 0x06;
constexpr uint32_t kSemihostSeek = 0x0A;
constexpr uint32_t kSemihostCommandLine = 0x15;
constexpr uint32_t kReadAndWrite = 3;  // "r+b"
constexpr uint32_t kFailed = 0xFFFFFFFF;
constexpr uint32_t kLongestPath = 384;  // with the word before it

uint32_t file = 0;  // no file: the emulator refuses it

[[gnu::noinline]] uint32_t call(uint32_t operation, uint32_t first, uint32_t second = 0, uint32_t third = 0) {
  const volatile uint32_t arguments[3] = {first, second, third};
  return ask(operation, reinterpret_cast<uint32_t>(arguments));
}

uint32_t address_of(const void* data) { return reinterpret_cast<uint32_t>(data); }

// Reads or writes at a place of the file; both operations return the number of bytes that are left.
Status transfer(uint32_t operation, uint32_t at, const void* data, size_t size) {
  if (call(kSemihostSeek, file, at) != 0) return Status::kBadState;
  return call(operation, file, address_of(data), size) == 0 ? Status::kOk : Status::kBadState;
}

}  // namespace

Status open() {
  char words[kLongestPath];
  volatile uint32_t line[2] = {address_of(words), sizeof words};
  if (ask(kSemihostCommandLine, reinterpret_cast<uint32_t>(line)) != 0) return Status::kBadState;
  asm volatile("" ::: "memory");
  const uint32_t end = line[1];
  uint32_t start = 0;  // of the second word, which goes on to the end
  while (start < end && words[start++] != ' ') {
  }
  if (start == end) return Status::kBadState;
  file = call(kSemihostOpen, address_of(words + start), kReadAndWrite, end - start);
  return file == kFailed ? Status::kBadState : Status::kOk;
}

Status read(uint32_t at, void* to, size_t size) {
  const Status status = transfer(kSemihostRead, at, to, size);
  asm volatile("" ::: "memory");  // the emulator has written behind the compiler's back
  return status;
}

Status program(uint32_t at, const void* from, size_t size) { return transfer(kSemihostWrite, at, from, size); }

Status erase(uint32_t page) {
  uint8_t blank[store::kPageBytes % 256 == 0 ? 256 : 32];
  std::memset(blank, 0xFF, sizeof blank);
  for (uint32_t done = 0; done < store::kPageBytes; done += sizeof blank)
    if (transfer(kSemihostWrite, page * store::kPageBytes + done, blank, sizeof blank) != Status::kOk) return Status::kBadState;
  return Status::kOk;
}

}  // namespace tmf::port::storage
