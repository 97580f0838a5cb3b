// Stand-in for arduino-esp32's WiFiClientSecure.h: it is compiled only, as there is no TLS behind it.
#pragma once

#include "WiFi.h"

class WiFiClientSecure : public WiFiClient {
 public:
  void setCACert(const char* rootCA) { trusted_ = rootCA; }
  void setHandshakeTimeout(unsigned long handshake_timeout) { handshake_seconds = handshake_timeout; }
  int connect(const char*, uint16_t) override { return 0; }
  using WiFiClient::connect;

  static inline unsigned long handshake_seconds = 120;  // as in the original, which no function tells

 private:
  const char* trusted_ = nullptr;
};
