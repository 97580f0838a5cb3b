// init(), unique_id() and the watchdog on an ESP32 kit: UART0 behind the kit's USB bridge or the network, and the chip's
// factory-set MAC address.
// Kits with an ESP32-S3 or ESP32-C3 have this port too; built with ARDUINO_USB_CDC_ON_BOOT=1, their line is the chip's own USB.
#include "port.hpp"

#include <cstring>

#include "../arduino/arduino.hpp"
#include "../arduino/watchdog.hpp"
#include "network.hpp"
#include "task_watchdog.hpp"

namespace tmf::port {

[[gnu::weak]] void join_network() {}

// A UART has no flow control here, so the driver's receive buffer, filled by interrupt, must hold a whole receive window. The
// interrupt comes when the chip's FIFO of 128 bytes holds 64: the default, 120, would leave it 0.7 ms, less than other interrupts
// may take; 64 leave it 5.6 ms. With a buffer for a whole answer, writing does not wait until it is on the line, 89 ms later.
void init(int, char**) {
  Serial.setRxBufferSize(board::kReceiveWindow);  // both have no effect after begin()
  Serial.setTxBufferSize(board::kReceiveWindow);
  Serial.begin(board::kBaud);
#if !ARDUINO_USB_CDC_ON_BOOT  // USB has flow control, and no such FIFO
  Serial.setRxFIFOFull(64);
#endif
  esp_task_wdt_init(board::kWatchdogSeconds, true);  // true: a reset, not only a message
  esp_task_wdt_add(nullptr);                         // this task, which runs setup() and loop()
  join_network();
}

void feed_watchdog() { esp_task_wdt_reset(); }

void unique_id(uint8_t (&id)[8]) {
  const uint64_t mac = ESP.getEfuseMac();  // six bytes, then two zeros
  std::memcpy(id, &mac, sizeof id);
}

}  // namespace tmf::port
