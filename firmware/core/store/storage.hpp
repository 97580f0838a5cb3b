// The storage functions of a port, for firmware with a store. A port whose board's JSON has "storage" implements them, in
// storage.cpp; firmware without a store does not contain them.
//
// The generated store_facts.hpp has the constants store::kPageBytes, kWriteBytes, kPages and kFirstByte. `at` counts bytes
// from the first of kPages pages of kPageBytes; where they are is the port's matter. All fail with kBadState if the
// storage is missing or does not take the data; then the store reports it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "protocol.hpp"

namespace tmf::port::storage {

// Called once, after port::init() and before all others.
Status open();

Status read(uint32_t at, void* to, size_t size);

// Writes erased flash; `at` and `size` are multiples of store::kWriteBytes. A power cut may leave any part of it written.
Status program(uint32_t at, const void* from, size_t size);

// Sets all bytes of a page to 0xFF. A power cut may leave anything there.
Status erase(uint32_t page);

}  // namespace tmf::port::storage
