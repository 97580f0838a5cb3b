// How a sketch starts the device. Includes Arduino.h as a system header, so that our warning flags do not apply to its core.
#pragma once
#pragma GCC system_header

#include <Arduino.h>

namespace tmf {

// Starts on the board's own line, Serial, and opens it as the board needs it.
void begin();

// Starts on a line that the sketch has opened. Without flow control its buffer must hold kReceiveWindow bytes.
void begin(Stream& line);

}  // namespace tmf
