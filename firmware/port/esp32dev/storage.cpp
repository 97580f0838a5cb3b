// The storage of an ESP32 kit: the partition "tinymetafed", else the partition for SPIFFS, which our firmware does not use.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include <store_facts.hpp>

#include <store/storage.hpp>

#include "esp_partition.hpp"

namespace tmf::port::storage {
namespace {

constexpr size_t kBytes = store::kPages * store::kPageBytes;

const esp_partition_t* partition = nullptr;

Status status_of(esp_err_t error) { return error == ESP_OK ? Status::kOk : Status::kBadState; }

}  // namespace

Status open() {
  partition = esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_ANY, "tinymetafed");
  if (partition == nullptr)
    partition = esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_DATA_SPIFFS, nullptr);
  return partition != nullptr && partition->size >= kBytes ? Status::kOk : Status::kBadState;
}

Status read(uint32_t at, void* to, size_t size) { return status_of(esp_partition_read(partition, at, to, size)); }

Status program(uint32_t at, const void* from, size_t size) {
  return status_of(esp_partition_write(partition, at, from, size));
}

Status erase(uint32_t page) {
  return status_of(esp_partition_erase_range(partition, page * store::kPageBytes, store::kPageBytes));
}

}  // namespace tmf::port::storage

#endif
