// The storage of an Arduino Nano 33 BLE: pages of its nRF52840 behind the space that we leave to the sketch.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include "../nrf52840/nvmc_storage.hpp"

namespace tmf::port::storage {

Status open() { return nrf52840::has_nvmc() ? Status::kOk : Status::kBadState; }

}  // namespace tmf::port::storage

#endif
