// Stand-in for the Arduino.h of ArduinoCore-mbed 4.5.0: the declarations that our port and the sketches of tests use, as in the original.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum { LOW = 0, HIGH = 1 } PinStatus;
typedef enum { INPUT = 0x0, OUTPUT = 0x1 } PinMode;
typedef uint8_t pin_size_t;

#define A0 (14u)

extern "C" {
unsigned long micros(void);
unsigned long millis(void);
void delay(unsigned long);
void pinMode(pin_size_t pinNumber, PinMode pinMode);
void digitalWrite(pin_size_t pinNumber, PinStatus status);
int analogRead(pin_size_t pinNumber);
void setup(void);
void loop(void);
}

namespace arduino {

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
  virtual void begin(unsigned long) = 0;
  virtual void begin(unsigned long baudrate, uint16_t config) = 0;
  virtual operator bool() = 0;
};

class UART : public HardwareSerial {
 public:
  void begin(unsigned long);
  void begin(unsigned long baudrate, uint16_t config);
  int available(void);
  int peek(void);
  int read(void);
  size_t write(uint8_t c);
  size_t write(const uint8_t*, size_t);
  using Print::write;
  operator bool();
};

}  // namespace arduino

using namespace arduino;

extern arduino::UART _UART_USB_;
#define Serial _UART_USB_
