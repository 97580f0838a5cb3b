// The board contract's rest on an ESP32: UART0 behind the kit's USB bridge and the chip's factory-set MAC address.
#include "port.hpp"

#include <cstring>

#include "../arduino/arduino.hpp"

namespace tmf::port {

// Nothing holds a sender back on a UART: the driver, which fills its buffer by interrupt, gets room for the whole window.
void init(int, char**) {
  Serial.setRxBufferSize(board::kReceiveWindow);  // only before begin()
  Serial.begin(board::kBaud);
}

void unique_id(uint8_t (&id)[8]) {
  const uint64_t mac = ESP.getEfuseMac();  // six bytes, then two zeros
  std::memcpy(id, &mac, sizeof id);
}

}  // namespace tmf::port
