// The storage of this emulated board: by simulator calls, a file of the machine that runs the emulator is the flash.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include <cstdint>
#include <cstring>

#include <store_facts.hpp>

#include <store/storage.hpp>

#include "simulator.hpp"

namespace tmf::port::storage {
namespace {

using namespace esp32isa::simulator;

constexpr uint32_t kBytes = store::kPages * store::kPageBytes;

uint32_t file = kFailed;

Status transfer(uint32_t operation, uint32_t at, const void* data, size_t size) {
  if (file == kFailed || call(kSeek, file, at, kFromStart) != at) return Status::kBadState;
  return call(operation, file, address_of(data), size) == size ? Status::kOk : Status::kBadState;
}

Status write_blank(uint32_t from, uint32_t end) {
  uint8_t blank[256];
  std::memset(blank, 0xFF, sizeof blank);
  while (from < end) {
    const uint32_t size = end - from < sizeof blank ? end - from : sizeof blank;
    if (transfer(kWrite, from, blank, size) != Status::kOk) return Status::kBadState;
    from += size;
  }
  return Status::kOk;
}

}  // namespace

Status open() {
  uint32_t buffer[kPathWords] = {};
  const char* const path = given_path(buffer);
  if (path == nullptr) return Status::kBadState;
  file = call(kOpen, address_of(path), kReadAndWrite | kCreate, 0644);
  const uint32_t length = file == kFailed ? kFailed : call(kSeek, file, 0, kFromEnd);
  if (length == kFailed) return Status::kBadState;
  return write_blank(length, kBytes);  // what a new or shorter file lacks is erased flash
}

Status read(uint32_t at, void* to, size_t size) { return transfer(kRead, at, to, size); }

Status program(uint32_t at, const void* from, size_t size) { return transfer(kWrite, at, from, size); }

Status erase(uint32_t page) { return write_blank(page * store::kPageBytes, (page + 1) * store::kPageBytes); }

}  // namespace tmf::port::storage

#endif
