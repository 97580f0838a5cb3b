// The board contract's rest on a Raspberry Pi Pico (RP2040) with Arduino's mbed core: USB serial and its flash chip's number.
//
// firmware/port/arduino of TinyMetaFed has read(), write(), wait() and ticks(), by Serial, delay() and micros().
#include "port.hpp"

#include <cstring>

#include "../arduino/arduino.hpp"

extern "C" void flash_get_unique_id(uint8_t* id_out);  // hardware/flash.h of the Pico's SDK, which the core contains

namespace tmf::port {

namespace {

uint8_t flash_number[8];

}  // namespace

// Serial is USB: what the core's 256 bytes cannot take stays with the host until they can, so any window is safe.
void init(int, char**) {
  noInterrupts();  // while its number is read, the flash gives nobody instructions, interrupt handlers included
  flash_get_unique_id(flash_number);
  interrupts();
  Serial.begin(board::kBaud);
}

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, flash_number, sizeof id); }

}  // namespace tmf::port
