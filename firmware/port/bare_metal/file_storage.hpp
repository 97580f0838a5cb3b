// The storage functions of emulated boards: by semihosting, a file of the machine that runs the emulator is the flash.
//
// The file exists and is as large as the flash. Included by one file of a board.
#pragma once

#include <cstdint>
#include <cstring>

#include <store_facts.hpp>

#include <store/storage.hpp>

#include "host_files.hpp"

namespace tmf::port::storage {
namespace {

using namespace bare_metal;

uint32_t file = 0;  // no file: the emulator refuses it

// Reads or writes at a place of the file; both operations return the number of bytes that are left.
Status transfer(uint32_t operation, uint32_t at, const void* data, size_t size) {
  if (call(kSemihostSeek, file, at) != 0) return Status::kBadState;
  return call(operation, file, address_of(data), size) == 0 ? Status::kOk : Status::kBadState;
}

}  // namespace

Status open() {
  char words[kLongestPath];
  const Path path = given_path(words);
  if (path.text == nullptr) return Status::kBadState;
  file = open_file(path, kReadAndWrite);
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
