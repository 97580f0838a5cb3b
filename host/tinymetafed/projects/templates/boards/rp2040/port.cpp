// Port for the Raspberry Pi Pico (RP2040) with Arduino's mbed core: USB serial, and the flash chip's number as unique id.
//
// firmware/port/arduino of TinyMetaFed has the other functions: read(), write(), wait() and ticks().
#include "port.hpp"

#include <cstring>

#include "../arduino/arduino.hpp"

extern "C" void flash_get_unique_id(uint8_t* id_out);  // hardware/flash.h of the Pico's SDK, which the core contains

namespace tmf::port {

namespace {

uint8_t flash_number[8];

}  // namespace

// Serial is USB: bytes that do not fit the core's buffer of 256 bytes stay at the host until they do, so any window is safe.
void init(int, char**) {
  noInterrupts();  // while the number is read, no code can run from flash, interrupt handlers included
  flash_get_unique_id(flash_number);
  interrupts();
  Serial.begin(board::kBaud);
}

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, flash_number, sizeof id); }

}  // namespace tmf::port
