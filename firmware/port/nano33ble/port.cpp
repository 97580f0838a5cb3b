// init() and unique_id() on an Arduino Nano 33 BLE: USB serial, and the device number of its nRF52840.
#include "port.hpp"

#include <nrf.h>

#include "../arduino/arduino.hpp"

namespace tmf::port {

// Serial is USB, which has flow control: when the Arduino core's 256 bytes are full, the host waits. Any window is safe.
void init(int, char**) { Serial.begin(board::kBaud); }

// Most significant byte first, as in the bare-metal port of this chip, so that a board has one id with both.
void unique_id(uint8_t (&id)[8]) {
  const uint64_t number = static_cast<uint64_t>(NRF_FICR->DEVICEID[1]) << 32 | NRF_FICR->DEVICEID[0];
  for (int i = 0; i < 8; ++i) id[i] = static_cast<uint8_t>(number >> (56 - 8 * i));
}

}  // namespace tmf::port
