// Stand-in for arduino-esp32's WiFiClientSecure.h: it is compiled only, as there is no TLS behind it.
#pragma once

#include "WiFi.h"

class WiFiClientSecure : public WiFiClient {
 public:
  void setCACert(const char* rootCA) { trusted_ = rootCA; }
  int connect(const char*, uint16_t) override { return 0; }
  using WiFiClient::connect;

 private:
  const char* trusted_ = nullptr;
};
