// The board contract: everything that the portable core asks of a machine; firmware/port/NAME implements it and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>

#include "board.hpp"  // generated: kBoardName, kReceiveWindow, kTicksPerSecond, kFloatRegisters, kBaud

namespace tmf::port {

// Brings up clock, serial line and tick counter. `argc`/`argv` are the process's on hosted ports, 0/nullptr elsewhere.
void init(int argc, char** argv);

// Moves up to `capacity` received bytes to `to` without waiting; returns how many. Holds board::kReceiveWindow bytes between calls.
size_t read(uint8_t* to, size_t capacity);

// Hands `size` bytes to the serial line, waiting for room where it must.
void write(const uint8_t* from, size_t size);

// Sleeps until `read` has something to give.
void wait();

// Free-running counter of board::kTicksPerSecond; wraps.
uint32_t ticks();

// Eight bytes that name this very device and outlive its resets.
void unique_id(uint8_t (&id)[8]);

}  // namespace tmf::port
