// The empty version of a sample's changes before its step, for firmware whose samples do not change. With [augment], a
// generated header of this name replaces it and includes augment/augmentation.hpp.
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
