// How a sketch starts the device. Understood by compilers from C++11 on.
#pragma once

#include "../port/arduino/arduino.hpp"
#include "device.hpp"

namespace tmf {
namespace port {

void init(int argc, char** argv);  // of port.hpp, which older compilers do not understand

}  // namespace port

// Starts on the board's own line, Serial, and opens it as the board needs it.
inline void begin() {
  port::init(0, nullptr);
  start();
}

// Starts on a line that the sketch has opened. Without flow control its buffer must hold kReceiveWindow bytes.
inline void begin(Stream& line) {
  port::use(line);
  start();
}

}  // namespace tmf
