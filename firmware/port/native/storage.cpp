// A file as the flash of a native device: the one that TINYMETAFED_STORAGE names, else a temporary one, which is gone afterwards.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include <store_facts.hpp>

#include <store/storage.hpp>

#include <fcntl.h>
#include <unistd.h>
#ifdef _WIN32
#include <io.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tmf::port::storage {
namespace {

constexpr size_t kBytes = store::kPages * store::kPageBytes;

int file = -1;

#ifdef _WIN32  // which has no pread() and pwrite(); without O_BINARY it would change line ends

constexpr int kOpening = O_RDWR | O_CREAT | O_BINARY | O_NOINHERIT;

bool reads(void* to, size_t size, off_t at) {
  return lseek(file, at, SEEK_SET) == at && ::read(file, to, static_cast<unsigned>(size)) == static_cast<int>(size);
}
bool writes(const void* from, size_t size, off_t at) {
  return lseek(file, at, SEEK_SET) == at && ::write(file, from, static_cast<unsigned>(size)) == static_cast<int>(size);
}

#else

constexpr int kOpening = O_RDWR | O_CREAT | O_CLOEXEC;

bool reads(void* to, size_t size, off_t at) { return pread(file, to, size, at) == static_cast<ssize_t>(size); }
bool writes(const void* from, size_t size, off_t at) { return pwrite(file, from, size, at) == static_cast<ssize_t>(size); }

#endif

Status write_at(uint32_t at, const void* from, size_t size) {
  return writes(from, size, static_cast<off_t>(at)) ? Status::kOk : Status::kBadState;
}

}  // namespace

Status open() {
  const char* path = std::getenv("TINYMETAFED_STORAGE");
  if (path != nullptr && path[0] != '\0') {
    file = ::open(path, kOpening, 0600);  // the board's key may be in it
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
  return reads(to, size, static_cast<off_t>(at)) ? Status::kOk : Status::kBadState;
}

Status program(uint32_t at, const void* from, size_t size) { return write_at(at, from, size); }

Status erase(uint32_t page) {
  uint8_t blank[store::kPageBytes];
  std::memset(blank, 0xFF, sizeof blank);
  return write_at(page * store::kPageBytes, blank, sizeof blank);
}

}  // namespace tmf::port::storage

#endif
