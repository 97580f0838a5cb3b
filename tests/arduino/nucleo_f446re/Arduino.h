// Stand-in for the Arduino.h of STM32duino 2.12: the declarations that our port and the sketches of tests use, as in the original.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LOW 0x0
#define HIGH 0x1
#define OUTPUT 0x1
#define INPUT_PULLUP 0x2

#if !defined(SERIAL_RX_BUFFER_SIZE)
#define SERIAL_RX_BUFFER_SIZE 64
#endif

static const uint8_t A0 = 192;

extern "C" {
uint32_t micros(void);
uint32_t millis(void);
void delay(uint32_t);
void pinMode(uint32_t pin, uint32_t mode);
void digitalWrite(uint32_t pin, uint32_t value);
uint32_t analogRead(uint32_t pin);
uint32_t HAL_GetUIDw0(void);  // three words of the chip's number
uint32_t HAL_GetUIDw1(void);
uint32_t HAL_GetUIDw2(void);
}

void setup(void);
void loop(void);

class Print {
 public:
  virtual size_t write(uint8_t) = 0;
  virtual size_t write(const uint8_t* buffer, size_t size);
};

class Stream : public Print {
 public:
  virtual int available() = 0;
  virtual int read() = 0;
  virtual int peek() = 0;
};

class HardwareSerial : public Stream {
 public:
  void begin(unsigned long baud);
  int available(void);
  int peek(void);
  int read(void);
  size_t write(uint8_t);
  size_t write(const uint8_t* buffer, size_t size);
  operator bool();
};

extern HardwareSerial Serial;
