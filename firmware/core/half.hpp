// IEEE 754 binary16 in integer code, the same on machines with and without hardware for it.
#pragma once

#include <cstdint>

#include "protocol.hpp"

namespace tmf {

// Rounds to nearest, ties to even. kNotFinite for NaN and infinity, kOverflow for what would round beyond 65504.
Status to_f16(float value, uint16_t& bits);

// Exact; also for subnormals, infinities and NaN.
float from_f16(uint16_t bits);

}  // namespace tmf
