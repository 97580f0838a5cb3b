// Stand-in for ESP-IDF's partitions: the default table's partition for SPIFFS, in the file that TINYMETAFED_STORAGE names. As on
// flash, a write can only clear bits, and an erase takes whole sectors of 4 KB.
#include <esp_partition.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr esp_err_t kInvalid = 0x102;
constexpr esp_partition_t kSpiffs = {nullptr,  ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_DATA_SPIFFS, 0x290000, 0x160000,
                                     "spiffs", false};

// The file, with erased flash where it is new.
int file() {
  static int opened = -1;
  if (opened >= 0) return opened;
  opened = open(std::getenv("TINYMETAFED_STORAGE"), O_RDWR | O_CREAT, 0644);
  static char blank[0x160000];
  std::memset(blank, 0xFF, sizeof blank);
  if (lseek(opened, 0, SEEK_END) == 0 && pwrite(opened, blank, sizeof blank, 0) < 0) std::abort();
  return opened;
}

bool is_inside(size_t offset, size_t size) { return offset <= kSpiffs.size && size <= kSpiffs.size - offset; }

esp_err_t result(ssize_t done, size_t size) { return done == static_cast<ssize_t>(size) ? ESP_OK : kInvalid; }

}  // namespace

const esp_partition_t* esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype, const char* label) {
  const bool fits = type == kSpiffs.type && (subtype == ESP_PARTITION_SUBTYPE_ANY || subtype == kSpiffs.subtype) &&
                    (label == nullptr || std::strcmp(label, kSpiffs.label) == 0);
  return fits ? &kSpiffs : nullptr;
}

esp_err_t esp_partition_read(const esp_partition_t*, size_t offset, void* to, size_t size) {
  return is_inside(offset, size) ? result(pread(file(), to, size, static_cast<off_t>(offset)), size) : kInvalid;
}

esp_err_t esp_partition_write(const esp_partition_t* partition, size_t offset, const void* from, size_t size) {
  std::vector<char> bytes(size);
  if (esp_partition_read(partition, offset, bytes.data(), size) != ESP_OK) return kInvalid;
  for (size_t i = 0; i < size; ++i) bytes[i] &= static_cast<const char*>(from)[i];
  return result(pwrite(file(), bytes.data(), size, static_cast<off_t>(offset)), size);
}

esp_err_t esp_partition_erase_range(const esp_partition_t*, size_t offset, size_t size) {
  char blank[4096];
  std::memset(blank, 0xFF, sizeof blank);
  if (!is_inside(offset, size) || offset % sizeof blank != 0 || size != sizeof blank) return kInvalid;
  return result(pwrite(file(), blank, size, static_cast<off_t>(offset)), size);
}
