// The storage functions of emulated boards: by semihosting, a file of the machine that runs the emulator is the flash.
//
// The file exists, empty at first. Included by one file of a board.
#pragma once

#include <cstdint>
#include <cstring>

#include <store_facts.hpp>

#include <store/storage.hpp>

#include "host_files.hpp"

namespace tmf::port::storage {
namespace {

using namespace bare_metal;

constexpr uint32_t kBytes = 2 * store::kSlotPages * store::kPageBytes;

uint32_t file = 0;  // no file: the emulator refuses it

// Reads or writes at a place of the file; both operations return the number of bytes that are left.
Status transfer(uint32_t operation, uint32_t at, const void* data, size_t size) {
  if (call(kSemihostSeek, file, at) != 0) return Status::kBadState;
  return call(operation, file, address_of(data), size) == 0 ? Status::kOk : Status::kBadState;
}

Status write_blank(uint32_t from, uint32_t end) {
  uint8_t blank[256];
  std::memset(blank, 0xFF, sizeof blank);
  while (from < end) {
    const uint32_t size = end - from < sizeof blank ? end - from : sizeof blank;
    if (transfer(kSemihostWrite, from, blank, size) != Status::kOk) return Status::kBadState;
    from += size;
  }
  return Status::kOk;
}

}  // namespace

Status open() {
  char words[kLongestPath];
  const Path path = given_path(words);
  if (path.text == nullptr) return Status::kBadState;
  const uint32_t opened = open_file(path, kReadAndWrite);
  const uint32_t length = call(kSemihostLength, opened);
  if (length == kFailed) return Status::kBadState;
  file = opened;
  return write_blank(length, kBytes);  // what an empty or shorter file lacks is erased flash
}

Status read(uint32_t at, void* to, size_t size) {
  const Status status = transfer(kSemihostRead, at, to, size);
  asm volatile("" ::: "memory");  // the emulator has written behind the compiler's back
  return status;
}

Status program(uint32_t at, const void* from, size_t size) { return transfer(kSemihostWrite, at, from, size); }

Status erase(uint32_t page) { return write_blank(page * store::kPageBytes, (page + 1) * store::kPageBytes); }

}  // namespace tmf::port::storage
