// init() and unique_id() on an ESP32 kit: UART0 behind the kit's USB bridge, and the chip's factory-set MAC address.
#include "port.hpp"

#include <cstring>

#include "../arduino/arduino.hpp"

namespace tmf::port {

// A UART has no flow control here, so the driver's receive buffer, filled by interrupt, must hold a whole receive window.
void init(int, char**) {
  Serial.setRxBufferSize(board::kReceiveWindow);  // has no effect after begin()
  Serial.begin(board::kBaud);
}

void unique_id(uint8_t (&id)[8]) {
  const uint64_t mac = ESP.getEfuseMac();  // six bytes, then two zeros
  std::memcpy(id, &mac, sizeof id);
}

}  // namespace tmf::port
