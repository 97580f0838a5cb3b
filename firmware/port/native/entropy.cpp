// Random bytes on a POSIX host: from the kernel's generator.
#include <entropy.hpp>

#include <sys/random.h>

bool tmf::port::entropy(uint8_t* to, size_t size) {
  constexpr size_t kMost = 256;  // bytes that getentropy() gives at once
  while (size > 0) {
    const size_t part = size < kMost ? size : kMost;
    if (getentropy(to, part) != 0) return false;
    to += part;
    size -= part;
  }
  return true;
}
