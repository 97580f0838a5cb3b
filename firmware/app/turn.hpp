// One turn of the firmware's loop, for every kind of main program.
#pragma once

#include "dispatch.hpp"
#include "port.hpp"

namespace tmf {

// Listens, answers, trains a sample between two messages, sleeps when there is nothing to do.
inline void turn(Dispatcher& dispatcher) {
  uint8_t bytes[64];
  const size_t received = port::read(bytes, sizeof bytes);
  dispatcher.receive(bytes, received);
  if (!dispatcher.work() && received == 0) port::wait();
}

}  // namespace tmf
