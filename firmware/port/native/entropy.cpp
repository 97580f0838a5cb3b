// Random bytes on a PC: from the operating system's generator.
#ifdef _WIN32
#define _CRT_RAND_S  // declares rand_s()
#endif

#include <entropy.hpp>

#ifdef _WIN32

#include <stdlib.h>

#include <cstring>

bool tmf::port::entropy(uint8_t* to, size_t size) {
  while (size > 0) {
    unsigned random = 0;
    if (rand_s(&random) != 0) return false;
    const size_t part = size < sizeof random ? size : sizeof random;
    std::memcpy(to, &random, part);
    to += part;
    size -= part;
  }
  return true;
}

#else

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

#endif
