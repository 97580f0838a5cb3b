// The board contract: the six functions that the portable core needs from a machine. Each folder firmware/port/NAME
// implements them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "board.hpp"  // generated: kBoardName, kReceiveWindow, kTicksPerSecond, kFloatRegisters, kBaud

namespace tmf::port {

// Starts clock, serial line and tick counter. `argc` and `argv` are those of the process on a host, else 0 and nullptr.
void init(int argc, char** argv);

// Moves up to `capacity` received bytes to `to` and returns their number; does not wait. Between two calls the port must be
// able to store board::kReceiveWindow bytes.
size_t read(uint8_t* to, size_t capacity);

// Sends `size` bytes on the serial line; waits while there is no room.
void write(const uint8_t* from, size_t size);

// Sleeps until there are bytes to `read`.
void wait();

// A counter of board::kTicksPerSecond that runs all the time and wraps.
uint32_t ticks();

// Eight bytes that differ between any two devices and stay the same after a reset.
void unique_id(uint8_t (&id)[8]);

}  // namespace tmf::port
