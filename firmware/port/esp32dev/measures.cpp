// What an ESP32 kit knows of itself: the stack of the task that runs the sketch. It cannot measure its supply voltage.
#if __has_include(<measure_facts.hpp>)  // generated for firmware that measures itself only
#include <measuring/own_figures.hpp>

#include "../arduino/arduino.hpp"

void tmf::port::measures::begin() {}

uint32_t tmf::port::measures::stack_bytes() {  // FreeRTOS has painted the stack, and knows what was free at least
  return static_cast<uint32_t>(getArduinoLoopTaskStackSize() - uxTaskGetStackHighWaterMark(nullptr));
}

uint32_t tmf::port::measures::millivolts() { return 0; }
#endif
