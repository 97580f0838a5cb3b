// The functions of <cstring>, which a compiler calls even where nobody else does; this one comes without a C library.
#include <cstddef>
#include <cstdint>
#include <cstring>

// Or the compiler would recognise these loops and make them calls of themselves.
#pragma GCC optimize("no-tree-loop-distribute-patterns")

extern "C" {

int memcmp(const void* a, const void* b, size_t size) {
  const auto* left = static_cast<const uint8_t*>(a);
  const auto* right = static_cast<const uint8_t*>(b);
  for (size_t i = 0; i < size; ++i) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}

void* memcpy(void* to, const void* from, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  const auto* source = static_cast<const uint8_t*>(from);
  for (size_t i = 0; i < size; ++i) target[i] = source[i];
  return to;
}

void* memmove(void* to, const void* from, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  const auto* source = static_cast<const uint8_t*>(from);
  if (target < source) return memcpy(to, from, size);
  while (size-- > 0) target[size] = source[size];
  return to;
}

void* memset(void* to, int value, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  for (size_t i = 0; i < size; ++i) target[i] = static_cast<uint8_t>(value);
  return to;
}

size_t strlen(const char* text) {
  size_t size = 0;
  while (text[size] != '\0') ++size;
  return size;
}

}  // extern "C"
