// One turn of the firmware's main loop, for all main programs.
#pragma once

#include "dispatch.hpp"
#include "port.hpp"

namespace tmf {

// Reads and answers messages, then trains at most one sample. Sleeps when there is nothing to do.
inline void turn(Dispatcher& dispatcher) {
  uint8_t bytes[64];
  const size_t received = port::read(bytes, sizeof bytes);
  dispatcher.receive(bytes, received);
  if (!dispatcher.work() && received == 0) port::wait();
}

}  // namespace tmf
