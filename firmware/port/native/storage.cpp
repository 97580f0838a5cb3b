// A file as the flash of a POSIX host: the one that TINYMETAFED_STORAGE names, else a temporary one, which is gone afterwards.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include <store_facts.hpp>

#include <store/storage.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tmf::port::storage {
namespace {

constexpr size_t kBytes = store::kPages * store::kPageBytes;

int file = -1;

Status write_at(uint32_t at, const void* from, size_t size) {
  return pwrite(file, from, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size) ? Status::kOk : Status::kBadState;
}

}  // namespace

Status open() {
  const char* path = std::getenv("TINYMETAFED_STORAGE");
  if (path != nullptr && path[0] != '\0') {
    file = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  } else if (std::FILE* temporary = std::tmpfile()) {
    file = fileno(temporary);
  }
  const off_t size = file < 0 ? -1 : lseek(file, 0, SEEK_END);
  if (size < 0) return Status::kBadState;
  uint8_t blank[store::kPageBytes];
  std::memset(blank, 0xFF, sizeof blank);
  for (size_t at = static_cast<size_t>(size); at < kBytes;) {  // what a new or shorter file lacks is erased flash
    const size_t part = kBytes - at < sizeof blank ? kBytes - at : sizeof blank;
    if (write_at(static_cast<uint32_t>(at), blank, part) != Status::kOk) return Status::kBadState;
    at += part;
  }
  return Status::kOk;
}

Status read(uint32_t at, void* to, size_t size) {
  return pread(file, to, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size) ? Status::kOk : Status::kBadState;
}

Status program(uint32_t at, const void* from, size_t size) { return write_at(at, from, size); }

Status erase(uint32_t page) {
  uint8_t blank[store::kPageBytes];
  std::memset(blank, 0xFF, sizeof blank);
  return write_at(page * store::kPageBytes, blank, sizeof blank);
}

}  // namespace tmf::port::storage

#endif
