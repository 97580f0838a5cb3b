// The replay functions of emulated boards: by semihosting, they read a file of the machine that runs the emulator. Included by one
// file of a board.
#pragma once

#include <cstring>

#include <sensor/replay.hpp>

#include "host_files.hpp"

namespace tmf::port::replay {
namespace {

using namespace bare_metal;

constexpr char kSuffix[] = ".rows";

uint32_t file = kFailed;

}  // namespace

bool open() {
  if (file != kFailed) return true;
  char words[kLongestPath];
  Path path = given_path(words);
  if (path.text == nullptr || path.text + path.size + sizeof kSuffix > words + sizeof words) return false;
  std::memcpy(path.text + path.size, kSuffix, sizeof kSuffix);
  path.size += sizeof kSuffix - 1;
  file = open_file(path, kReadOnly);
  return file != kFailed;
}

size_t read(uint32_t at, void* to, size_t size) {
  if (file == kFailed || call(kSemihostSeek, file, at) != 0) return 0;
  const uint32_t left = call(kSemihostRead, file, address_of(to), size);  // bytes that were not read
  asm volatile("" ::: "memory");  // the emulator has written behind the compiler's back
  return left > size ? 0 : size - left;
}

}  // namespace tmf::port::replay
