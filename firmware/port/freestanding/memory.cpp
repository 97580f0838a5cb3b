// The functions of <cstring> for compilers without a C library. Compilers insert calls of them by themselves.
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

using Word [[gnu::may_alias]] = uint32_t;

bool aligned(const void* a, const void* b) {
  return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % sizeof(Word)) == 0;
}

// Keeps the compiler from replacing the loop with a call of the function that contains it. Generates no instruction.
inline void keep_loop() { asm volatile(""); }

}  // namespace

extern "C" {

void* memcpy(void* to, const void* from, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  auto* source = static_cast<const uint8_t*>(from);
  if (aligned(to, from)) {
    for (; size >= sizeof(Word); size -= sizeof(Word), target += sizeof(Word), source += sizeof(Word)) {
      *reinterpret_cast<Word*>(target) = *reinterpret_cast<const Word*>(source);
      keep_loop();
    }
  }
  for (; size > 0; --size) {
    *target++ = *source++;
    keep_loop();
  }
  return to;
}

void* memmove(void* to, const void* from, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  auto* source = static_cast<const uint8_t*>(from);
  if (target <= source || target >= source + size) return memcpy(to, from, size);  // which copies in ascending order
  while (size > 0) {
    --size;
    target[size] = source[size];
    keep_loop();
  }
  return to;
}

void* memset(void* to, int value, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  const auto byte = static_cast<uint8_t>(value);
  if (aligned(to, to)) {
    for (; size >= sizeof(Word); size -= sizeof(Word), target += sizeof(Word)) {
      *reinterpret_cast<Word*>(target) = byte * 0x01010101u;
      keep_loop();
    }
  }
  for (; size > 0; --size) {
    *target++ = byte;
    keep_loop();
  }
  return to;
}

int memcmp(const void* left, const void* right, size_t size) {
  auto* a = static_cast<const uint8_t*>(left);
  auto* b = static_cast<const uint8_t*>(right);
  for (; size > 0; --size, ++a, ++b) {
    if (*a != *b) return *a - *b;
    keep_loop();
  }
  return 0;
}

size_t strlen(const char* text) {
  size_t size = 0;
  for (; text[size] != '\0'; ++size) keep_loop();
  return size;
}

}  // extern "C"
