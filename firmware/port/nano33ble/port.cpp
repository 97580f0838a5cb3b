// init(), unique_id() and the watchdog on an Arduino Nano 33 BLE: USB serial, and the nRF52840's device number and watchdog.
#include "port.hpp"

#include <nrf.h>

#include "../arduino/arduino.hpp"
#include "../arduino/watchdog.hpp"

namespace tmf::port {

// Serial is USB, which has flow control: when the Arduino core's 256 bytes are full, the host waits. Any window is safe.
//
// A failed assertion of the mbed core stops the processor until someone presses reset; the watchdog does that instead. It cannot
// be stopped, and counts on in the boot loader that an upload starts: kWatchdogSeconds must be longer than an upload.
void init(int, char**) {
  Serial.begin(board::kBaud);
  NRF_NVMC->ICACHECNF = 1;  // off at reset, and left off by the Arduino core; without it, code waits for the flash
  NRF_WDT->CONFIG = 1;  // counts while the processor sleeps, not while a debugger holds it
  NRF_WDT->CRV = board::kWatchdogSeconds * 32768 - 1;
  NRF_WDT->RREN = 1;  // RR[0] alone feeds it
  NRF_WDT->TASKS_START = 1;
}

void feed_watchdog() { NRF_WDT->RR[0] = 0x6E524635; }  // the product specification's only valid value

// Most significant byte first, as in the bare-metal port of this chip, so that a board has one id with both.
void unique_id(uint8_t (&id)[8]) {
  const uint64_t number = static_cast<uint64_t>(NRF_FICR->DEVICEID[1]) << 32 | NRF_FICR->DEVICEID[0];
  for (int i = 0; i < 8; ++i) id[i] = static_cast<uint8_t>(number >> (56 - 8 * i));
}

}  // namespace tmf::port
