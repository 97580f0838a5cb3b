// The recording that stands for this emulated board's sensor: a file, by simulator calls.
#if __has_include(<sensor_facts.hpp>)  // generated for firmware with a sensor only
#include <cstring>

#include <sensor/replay.hpp>

#include "simulator.hpp"

namespace tmf::port::replay {
namespace {

using namespace esp32isa::simulator;

constexpr char kSuffix[] = ".rows";

uint32_t file = kFailed;

}  // namespace

bool open() {
  if (file != kFailed) return true;
  uint32_t buffer[kPathWords] = {};
  const char* const path = given_path(buffer);
  if (path == nullptr) return false;
  char with_suffix[sizeof(uint32_t) * kPathWords];
  uint32_t size = 0;
  for (; path[size] != '\0'; ++size) {
    if (size + sizeof kSuffix == sizeof with_suffix) return false;
    with_suffix[size] = path[size];
  }
  std::memcpy(with_suffix + size, kSuffix, sizeof kSuffix);
  file = call(kOpen, address_of(with_suffix), kReadOnly);
  return file != kFailed;
}

size_t read(uint32_t at, void* to, size_t size) {
  if (file == kFailed || call(kSeek, file, at, kFromStart) != at) return 0;
  const uint32_t got = call(kRead, file, address_of(to), size);
  return got > size ? 0 : got;
}

}  // namespace tmf::port::replay

#endif
