// What changes a sample's input before its step: nothing. Firmware whose samples change has a generated header of this name,
// which includes augment/augmentation.hpp instead.
#pragma once

#include <cstdint>

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf::augmentation {

// The interface that augment/augmentation.hpp describes; takes neither memory nor time.
constexpr bool kAugments = false;
constexpr bool applies(protocol::SampleSet) { return false; }
inline void change(float*, const Key&, uint32_t) {}
inline void change(uint8_t*, const Key&, uint32_t) {}

}  // namespace tmf::augmentation
