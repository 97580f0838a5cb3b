// Stand-in for the Arduino.h of arduino-esp32 2.0 on an ESP32-S3: the ESP32's, with the chip's own USB as line where a build asks for it.
#pragma once

#include "../esp32dev/Arduino.h"
