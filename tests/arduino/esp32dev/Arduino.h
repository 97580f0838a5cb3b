// Stand-in for the Arduino.h of arduino-esp32 2.0: the declarations that our port and the sketches of tests use, as in the original.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SERIAL_8N1 0x800001c
#define LOW 0x0
#define HIGH 0x1
#define OUTPUT 0x03
#define INPUT_PULLUP 0x05

static const uint8_t A0 = 36;

typedef bool boolean;

extern "C" {
void yield(void);
unsigned long micros();
unsigned long millis();
void delay(uint32_t);
void pinMode(uint8_t pin, uint8_t mode);
void digitalWrite(uint8_t pin, uint8_t val);
uint16_t analogRead(uint8_t pin);
int digitalRead(uint8_t pin);
float temperatureRead();
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
  void begin(unsigned long baud, uint32_t config = SERIAL_8N1, int8_t rxPin = -1, int8_t txPin = -1, bool invert = false,
             unsigned long timeout_ms = 20000UL, uint8_t rxfifo_full_thrhd = 112);
  int available(void);
  int peek(void);
  int read(void);
  size_t read(uint8_t* buffer, size_t size);
  size_t write(uint8_t);
  size_t write(const uint8_t* buffer, size_t size);
  operator bool() const;
  size_t setRxBufferSize(size_t new_size);
  size_t setTxBufferSize(size_t new_size);
  bool setRxFIFOFull(uint8_t fifoBytes);
};

#if ARDUINO_USB_CDC_ON_BOOT  // on an ESP32-S3 or ESP32-C3

class HWCDC : public Stream {
 public:
  size_t setRxBufferSize(size_t);
  size_t setTxBufferSize(size_t);
  void begin(unsigned long baud = 0);
  int available(void);
  int peek(void);
  int read(void);
  size_t write(uint8_t);
  size_t write(const uint8_t* buffer, size_t size);
  operator bool() const;
};

extern HWCDC Serial;

#else

extern HardwareSerial Serial;

#endif

class EspClass {
 public:
  uint64_t getEfuseMac();
};

extern EspClass ESP;

typedef void* TaskHandle_t;
unsigned uxTaskGetStackHighWaterMark(TaskHandle_t task);  // bytes that were free at least
size_t getArduinoLoopTaskStackSize(void);
