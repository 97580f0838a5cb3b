// The board contract's rest on an Arduino Nano 33 BLE: USB serial and the number in its nRF52840.
#include "port.hpp"

#include <nrf.h>

#include <cstring>

#include "../arduino/arduino.hpp"

namespace tmf::port {

// Serial is USB: what the core's 256 bytes cannot take stays with the host until they can, so any window is safe.
void init(int, char**) { Serial.begin(board::kBaud); }

void unique_id(uint8_t (&id)[8]) {
  const uint32_t words[2] = {NRF_FICR->DEVICEID[0], NRF_FICR->DEVICEID[1]};
  std::memcpy(id, words, sizeof id);
}

}  // namespace tmf::port
