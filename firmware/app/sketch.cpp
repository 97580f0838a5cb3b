// The main program as an Arduino sketch: the Arduino core's main() calls setup() once and then loop() again and again.
#include "turn.hpp"

#include "../port/arduino/arduino.hpp"  // declares both functions, in some Arduino cores as extern "C"

namespace {

// Static, so that the linker counts its memory.
tmf::Dispatcher dispatcher;

}  // namespace

void setup() {
  tmf::port::init(0, nullptr);
  dispatcher.begin();
}

void loop() { tmf::turn(dispatcher); }
