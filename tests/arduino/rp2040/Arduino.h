// Stand-in for the Arduino.h of ArduinoCore-mbed 4.5.0 on an RP2040: that of the Nano 33 BLE, and what the Pico's port uses more.
#pragma once

#include "../nano33ble/Arduino.h"

void noInterrupts();  // macros over __disable_irq() and __enable_irq() there
void interrupts();
