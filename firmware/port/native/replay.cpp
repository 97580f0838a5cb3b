// The recording that stands for a host process's sensor: the file that TINYMETAFED_REPLAY names.
#if __has_include(<sensor_facts.hpp>)  // generated for firmware with a sensor only
#include <sensor/replay.hpp>

#include <cstdio>
#include <cstdlib>

namespace tmf::port::replay {
namespace {

std::FILE* file = nullptr;

}  // namespace

bool open() {
  const char* path = std::getenv("TINYMETAFED_REPLAY");
  if (file == nullptr && path != nullptr && path[0] != '\0') file = std::fopen(path, "rb");
  return file != nullptr;
}

size_t read(uint32_t at, void* to, size_t size) {
  return std::fseek(file, static_cast<long>(at), SEEK_SET) == 0 ? std::fread(to, 1, size, file) : 0;
}

}  // namespace tmf::port::replay

#endif
