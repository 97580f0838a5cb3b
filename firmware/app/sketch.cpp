// The firmware as an Arduino sketch: the core's own main() calls setup() once and loop() for ever.
#include "turn.hpp"

#include "../port/arduino/arduino.hpp"  // declares both functions, as C's on one core and as C++'s on another

namespace {

// Static, so that the linker counts every byte of it.
tmf::Dispatcher dispatcher;

}  // namespace

void setup() { tmf::port::init(0, nullptr); }

void loop() { tmf::turn(dispatcher); }
