// Stand-in for the Arduino cores' IPAddress.h.
#pragma once

#include <stdint.h>

class IPAddress {
 public:
  IPAddress() {}
  IPAddress(uint8_t, uint8_t, uint8_t, uint8_t) {}
};
