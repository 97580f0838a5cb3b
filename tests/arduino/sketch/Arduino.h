// Stand-in for Arduino.h that runs a sketch on this machine: Serial writes to standard output; loop() runs once.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct SerialPort {
  void begin(unsigned long) {}
  explicit operator bool() const { return true; }
  size_t print(const char* text) { return static_cast<size_t>(printf("%s", text)); }
  size_t print(long number) { return static_cast<size_t>(printf("%ld", number)); }
  size_t print(double number, int digits) { return static_cast<size_t>(printf("%.*f", digits, number)); }
  size_t println(const char* text) { return print(text) + println(); }
  size_t println() { return static_cast<size_t>(printf("\n")); }
};

static SerialPort Serial;
inline void delay(unsigned long) {}

void setup();
void loop();

int main() {
  setup();
  loop();
  return 0;
}
