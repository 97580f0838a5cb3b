// The board contract of figures that only the machine itself can tell. A board with the fact `measures` in its JSON implements
// them, in measures.cpp; only firmware with board.measures contains them.
#pragma once

#include <cstdint>

namespace tmf::port::measures {

// Called once, at the start of the device.
void begin();

// The deepest stack in bytes since the start; 0: not known.
uint32_t stack_bytes();

// The supply voltage of the chip in millivolts; 0: not known.
uint32_t millivolts();

}  // namespace tmf::port::measures
