// Includes the Arduino core's Wi-Fi as system headers, so that our warning flags do not apply to them.
#pragma once
#pragma GCC system_header

#include <WiFi.h>
#include <WiFiClientSecure.h>
