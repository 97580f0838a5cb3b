// The storage of a bare nRF52840: the last 128 KB of its flash, which start_chip() has protected with the program.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include "nvmc_storage.hpp"

#include "registers.hpp"

namespace tmf::port::storage {

constexpr uint32_t kProtectedBytes = 128 * 1024;  // a power of two
static_assert(store::kFirstByte % kProtectedBytes == 0 && store::kPages * store::kPageBytes <= kProtectedBytes,
              "one region of the memory protection unit has all pages");

Status open() {
  cortex_m::protect(2, store::kFirstByte, kProtectedBytes, cortex_m::Access::kReadWrite);
  asm volatile("dsb\n isb" ::: "memory");
  return nrf52840::has_nvmc() ? Status::kOk : Status::kBadState;
}

}  // namespace tmf::port::storage

#endif
