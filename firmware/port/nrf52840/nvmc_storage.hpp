// The storage functions on an nRF52840: pages of the chip's own flash, written and erased by its NVMC.
//
// Included by the storage.cpp of each board with this chip. The processor stands still meanwhile, as it runs from the same
// flash: 41 us for a word, 85 ms for a page (Nordic's product specification). The firmware saves when no message is under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <store_facts.hpp>

#include <store/storage.hpp>

namespace tmf::nrf52840 {

// Non-volatile memory controller.
struct Nvmc {
  uint32_t reserved0[256];
  volatile uint32_t ready;
  uint32_t reserved1[64];
  volatile uint32_t config;
  volatile uint32_t erase_page;  // the address of the page
};
static_assert(offsetof(Nvmc, ready) == 0x400 && offsetof(Nvmc, config) == 0x504 && offsetof(Nvmc, erase_page) == 0x508);
constexpr uint32_t kNvmcReadOnly = 0;  // in config
constexpr uint32_t kNvmcWrite = 1;
constexpr uint32_t kNvmcErase = 2;

inline Nvmc& nvmc() { return *reinterpret_cast<Nvmc*>(0x4001E000); }

inline void set_nvmc(uint32_t config) {
  nvmc().config = config;
  asm volatile("dsb\n isb" ::: "memory");
}

// False where the chip has none, as in Renode: its registers read 0 there.
inline bool has_nvmc() { return nvmc().ready != 0; }

inline void wait_for_nvmc() {
  while (nvmc().ready == 0) {
  }
}

}  // namespace tmf::nrf52840

namespace tmf::port::storage {

static_assert(store::kWriteBytes == 4, "the NVMC writes words");

// A write that fails is found when the store reads it again.
Status read(uint32_t at, void* to, size_t size) {
  std::memcpy(to, reinterpret_cast<const void*>(store::kFirstByte + at), size);
  return Status::kOk;
}

Status program(uint32_t at, const void* from, size_t size) {
  using namespace nrf52840;
  const auto* bytes = static_cast<const uint8_t*>(from);
  set_nvmc(kNvmcWrite);
  for (size_t i = 0; i < size; i += 4) {
    uint32_t word;
    std::memcpy(&word, bytes + i, sizeof word);
    *reinterpret_cast<volatile uint32_t*>(store::kFirstByte + at + i) = word;
    wait_for_nvmc();
  }
  set_nvmc(kNvmcReadOnly);
  return Status::kOk;
}

Status erase(uint32_t page) {
  using namespace nrf52840;
  set_nvmc(kNvmcErase);
  nvmc().erase_page = store::kFirstByte + page * store::kPageBytes;
  wait_for_nvmc();
  set_nvmc(kNvmcReadOnly);
  return Status::kOk;
}

}  // namespace tmf::port::storage
