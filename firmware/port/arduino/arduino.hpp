// Arduino's API, and the line that the port uses. A system header, so that our warning flags do not apply to the Arduino core.
#pragma once
#pragma GCC system_header

#include <Arduino.h>

namespace tmf {
namespace port {

// Takes this line, which is open, instead of Serial.
void use(Stream& line);

}  // namespace port
}  // namespace tmf
