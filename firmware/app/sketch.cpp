// The main program as an Arduino sketch, which does nothing but federate.
#include "tinymetafed.h"

void setup() { tmf::begin(); }

void loop() {
  if (!tmf::poll()) tmf::wait();
}
