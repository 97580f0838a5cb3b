// The recording that stands for a host process's sensor: the file that TINYMETAFED_REPLAY names.
#if __has_include(<sensor_facts.hpp>)  // generated for firmware with a sensor only
#include <sensor/replay.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace tmf::port::replay {
namespace {

int file = -1;

}  // namespace

bool open() {
  const char* path = std::getenv("TINYMETAFED_REPLAY");
  if (file < 0 && path != nullptr && path[0] != '\0') file = ::open(path, O_RDONLY | O_CLOEXEC);
  return file >= 0;
}

size_t read(uint32_t at, void* to, size_t size) {
  const ssize_t got = pread(file, to, size, static_cast<off_t>(at));
  return got < 0 ? 0 : static_cast<size_t>(got);
}

}  // namespace tmf::port::replay

#endif
