// Includes Arduino.h as a system header, so that our warning flags do not apply to the Arduino core.
#pragma once
#pragma GCC system_header

#include <Arduino.h>
