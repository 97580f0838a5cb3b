// Port for an ST Nucleo F446RE with STM32duino: a UART behind the board's ST-Link, and the chip's number as unique id.
//
// firmware/port/arduino of TinyMetaFed has the other functions: read(), write(), wait() and ticks().
#include "port.hpp"

#include "../arduino/arduino.hpp"

namespace tmf::port {

// A UART has no flow control here, so the core's receive buffer, filled by interrupt, must hold a whole receive window. One of its
// bytes always stays empty.
static_assert(SERIAL_RX_BUFFER_SIZE > board::kReceiveWindow, "build_flags in boards/environments.ini make the buffer larger");

void init(int, char**) { Serial.begin(board::kBaud); }

// The chip's number has 96 bits: place on the wafer, number of the wafer, and lot. They are folded as in the serial number that ST's
// boot loader gives to USB: the first and the last word are added.
void unique_id(uint8_t (&id)[8]) {
  const uint64_t number = static_cast<uint64_t>(HAL_GetUIDw0() + HAL_GetUIDw2()) << 32 | HAL_GetUIDw1();
  for (int i = 0; i < 8; ++i) id[i] = static_cast<uint8_t>(number >> (56 - 8 * i));
}

}  // namespace tmf::port
