// Stand-in for the Arduino.h of ArduinoCore-mbed 4.5.0 on an RP2040: the Nano 33 BLE's, plus what only the Pico's port uses.
#pragma once

#include "../nano33ble/Arduino.h"

void noInterrupts();  // in the original, both are macros for __disable_irq() and __enable_irq()
void interrupts();
