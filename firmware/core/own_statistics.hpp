// How well the board does that learns by itself: of the one device of a program, so that a store can save it too.
#pragma once

#include "device_facts.hpp"
#include "prequential.hpp"

namespace tmf {

// Static memory, all zero at first.
inline Prequential<!kTargetsAreValues> own_statistics;

}  // namespace tmf
