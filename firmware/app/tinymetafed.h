// What an Arduino sketch includes: Arduino.h, and all functions of TinyMetaFed for a program of your own.
#pragma once

#include "../port/arduino/arduino.hpp"  // begin()
#include "device.hpp"                   // poll(), predict(), learn(), adapt()
