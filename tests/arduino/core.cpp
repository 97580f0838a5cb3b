// Stand-in for the Arduino cores on a POSIX host: the serial line is a pseudo-terminal, and main() runs the sketch.
//
// It receives as the real cores do. The mbed core has a buffer of 256 bytes; when it is full, the sender waits. While the host
// has the port closed (from SIGUSR1 to SIGUSR2), it sends nothing. It sends each write in packets of 64 bytes, and no empty one
// after a full one: the host's driver keeps the bytes of full packets until a shorter one has come. The ESP32 core has a buffer
// of the size that the sketch has asked for; when it is full, bytes are lost.
//
// SIGHUP stops the main thread, as a failed assertion of the mbed core does; the chip's watchdog then starts the program again on
// the same line. SIGTERM ends the program with exit code 0, or 3 if bytes were lost. With `core MICROSECONDS SPEED`, every
// reading of the clock, and so every training step, takes that long, as a board is slower than a host, and the watchdog counts
// SPEED seconds in each second.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <Arduino.h>

namespace {

int line = -1;
unsigned char buffer[4096];
size_t first = 0, count = 0;
size_t capacity = 256;
unsigned char kept[4096];  // by the host's driver
size_t kept_size = 0;
bool holds_sender_back = false;
useconds_t slowness = 0;
double watchdog_speed = 1;
char** program = nullptr;
volatile sig_atomic_t lost = 0;
volatile sig_atomic_t closed = 0;
volatile sig_atomic_t halted = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fail(const char* what) {
  perror(what);
  exit(1);
}

// This thread does what the interrupt handler does on a board.
void* receive(void*) {
  for (;;) {
    unsigned char byte;
    if (read(line, &byte, 1) != 1) fail("cannot read the line");
    for (;;) {
      pthread_mutex_lock(&lock);
      const bool full = count == capacity;
      if (!full) buffer[(first + count++) % sizeof buffer] = byte;
      if (full && !holds_sender_back) lost = 1;
      pthread_mutex_unlock(&lock);
      if (!full || !holds_sender_back) break;
      usleep(100);
    }
  }
}

void begin(bool flow_control) {
  holds_sender_back = flow_control;
  pthread_t thread;
  if (pthread_create(&thread, nullptr, receive, nullptr) != 0) fail("cannot start a thread");
}

int available() {
  while (halted) pause();
  pthread_mutex_lock(&lock);
  const int now = static_cast<int>(count);
  pthread_mutex_unlock(&lock);
  return now;
}

int take() {
  pthread_mutex_lock(&lock);
  int byte = -1;
  if (count > 0) {
    byte = buffer[first];
    first = (first + 1) % sizeof buffer;
    --count;
  }
  pthread_mutex_unlock(&lock);
  return byte;
}

size_t put(const uint8_t* from, size_t size) {
  if (closed && holds_sender_back) return 0;
  if (!holds_sender_back) {
    const ssize_t sent = write(line, from, size);
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  for (size_t at = 0; at < size;) {
    const size_t packet = size - at < 64 ? size - at : 64;
    if (kept_size + packet > sizeof kept) fail("the host's driver has no room");
    memcpy(kept + kept_size, from + at, packet);
    kept_size += packet;
    at += packet;
    if (packet == 64) continue;
    if (write(line, kept, kept_size) < 0) fail("cannot write the line");
    kept_size = 0;
  }
  return size;
}

double now() {
  timespec read;
  clock_gettime(CLOCK_MONOTONIC, &read);
  return static_cast<double>(read.tv_sec) + static_cast<double>(read.tv_nsec) / 1e9;
}

bool was_fed();             // since the last call
double watchdog_seconds();  // 0 until it is started

// This thread is the chip's watchdog. A reset starts the program again; the line stays open.
void* watch(void*) {
  for (double fed = now();;) {
    usleep(10'000);
    if (was_fed() || watchdog_seconds() == 0) fed = now();
    if ((now() - fed) * watchdog_speed < watchdog_seconds()) continue;
    if (watchdog_seconds() == 0) continue;
    char number[16];
    snprintf(number, sizeof number, "%d", line);
    setenv("LINE", number, 1);
    execv(program[0], program);
    fail("cannot start again");
  }
}

void handle(int signal) {
  if (signal == SIGTERM) _exit(lost ? 3 : 0);
  if (signal == SIGHUP) halted = 1;
  if (signal != SIGHUP) closed = signal == SIGUSR1;
}

}  // namespace

decltype(micros()) micros() {
  if (slowness > 0) usleep(slowness);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<decltype(micros())>(now.tv_sec) * 1000000 + static_cast<decltype(micros())>(now.tv_nsec / 1000);
}

size_t Print::write(const uint8_t* from, size_t size) { return put(from, size); }

decltype(millis()) millis() { return micros() / 1000; }

#ifdef Serial  // a macro of the mbed core

void pinMode(pin_size_t, PinMode) {}
void digitalWrite(pin_size_t, PinStatus) {}
int analogRead(pin_size_t pin) { return pin * 10; }

#if __has_include(<nrf.h>)  // the Nano 33 BLE

#include <nrf.h>

NRF_FICR_Type factory_information = {{0x67452301, 0xEFCDAB89}};
NRF_WDT_Type watchdog;
NRF_NVMC_Type flash_controller;

namespace {
bool was_fed() {
  const bool fed = watchdog.RR[0] == 0x6E524635;
  if (fed) watchdog.RR[0] = 0;
  return fed;
}
double watchdog_seconds() {
  const bool on = watchdog.TASKS_START == 1 && watchdog.RREN == 1 && watchdog.CONFIG == 1;
  // Nothing else would show it: the program is only slower.
  if (on && flash_controller.ICACHECNF != 1) fail("the instruction cache is off");
  return on ? (watchdog.CRV + 1.0) / 32768 : 0;
}
}  // namespace

#else  // the Raspberry Pi Pico

namespace {
bool interrupts_are_on = true;
bool was_fed() { return false; }
double watchdog_seconds() { return 0; }
}  // namespace

void noInterrupts() { interrupts_are_on = false; }
void interrupts() { interrupts_are_on = true; }

// On the board, interrupt handlers must not run during this call, as they could not read the flash.
extern "C" void flash_get_unique_id(uint8_t* id_out) {
  if (interrupts_are_on) fail("the flash's number must be read with interrupts off");
  const uint8_t number[] = {0xE6, 0x60, 0x58, 0x38, 0x83, 0x72, 0x4A, 0x32};
  memcpy(id_out, number, sizeof number);
}

#endif

arduino::UART _UART_USB_;

void delay(unsigned long ms) { usleep(static_cast<useconds_t>(ms * 1000)); }

namespace arduino {
void UART::begin(unsigned long) { ::begin(true); }
void UART::begin(unsigned long, uint16_t) { ::begin(true); }
int UART::available() { return ::available(); }
int UART::peek() { return -1; }
int UART::read() { return ::take(); }
size_t UART::write(uint8_t c) { return put(&c, 1); }
size_t UART::write(const uint8_t* from, size_t size) { return put(from, size); }
UART::operator bool() { return true; }
}  // namespace arduino

#elif defined(SERIAL_RX_BUFFER_SIZE)  // STM32duino

HardwareSerial Serial;

void pinMode(uint32_t, uint32_t) {}
void digitalWrite(uint32_t, uint32_t) {}
uint32_t analogRead(uint32_t pin) { return pin * 10; }

namespace {
bool was_fed() { return false; }
double watchdog_seconds() { return 0; }
}  // namespace

uint32_t HAL_GetUIDw0() { return 0x00220043; }
uint32_t HAL_GetUIDw1() { return 0x32355107; }
uint32_t HAL_GetUIDw2() { return 0x38363935; }

void delay(uint32_t ms) { usleep(ms * 1000); }

void HardwareSerial::begin(unsigned long) {
  capacity = SERIAL_RX_BUFFER_SIZE - 1;
  ::begin(false);
}
int HardwareSerial::available() { return ::available(); }
int HardwareSerial::peek() { return -1; }
int HardwareSerial::read() { return ::take(); }
size_t HardwareSerial::write(uint8_t c) { return put(&c, 1); }
size_t HardwareSerial::write(const uint8_t* from, size_t size) { return put(from, size); }
HardwareSerial::operator bool() { return true; }

#else

#include <esp_task_wdt.h>

EspClass ESP;

void pinMode(uint8_t, uint8_t) {}
void digitalWrite(uint8_t, uint8_t) {}
uint16_t analogRead(uint8_t pin) { return pin * 10; }
namespace {
volatile uint32_t seconds = 0;
volatile bool subscribed = false, fed = false;
bool was_fed() {
  const bool before = fed;
  fed = false;
  return before;
}
double watchdog_seconds() { return subscribed ? seconds : 0; }
}  // namespace

esp_err_t esp_task_wdt_init(uint32_t timeout, bool panic) {
  if (panic) seconds = timeout;  // without panic it only prints a message
  return ESP_OK;
}
esp_err_t esp_task_wdt_add(TaskHandle_t) {
  subscribed = true;
  return ESP_OK;
}
esp_err_t esp_task_wdt_reset() {
  fed = true;
  return subscribed ? ESP_OK : 0x105;  // not found
}

void delay(uint32_t ms) { usleep(ms * 1000); }
void yield() {}

#if ARDUINO_USB_CDC_ON_BOOT

HWCDC Serial;

void HWCDC::begin(unsigned long) { ::begin(true); }
int HWCDC::available() { return ::available(); }
int HWCDC::peek() { return -1; }
int HWCDC::read() { return ::take(); }
size_t HWCDC::write(uint8_t c) { return put(&c, 1); }
size_t HWCDC::write(const uint8_t* from, size_t size) { return put(from, size); }
HWCDC::operator bool() const { return true; }
size_t HWCDC::setRxBufferSize(size_t size) { return capacity = size; }
size_t HWCDC::setTxBufferSize(size_t size) { return size; }

#else

HardwareSerial Serial;

namespace {
int fifo_full = 0;  // 0 until begin()
}  // namespace

void HardwareSerial::begin(unsigned long, uint32_t, int8_t, int8_t, bool, unsigned long, uint8_t threshold) {
  fifo_full = threshold;
  ::begin(false);
}
// The chip's FIFO has 128 bytes. At 115200 baud the interrupt handler has 87 us for each byte left free when it is called; other
// handlers may take milliseconds.
int HardwareSerial::available() {
  if (fifo_full > 64) fail("the FIFO may overflow");
  return ::available();
}
int HardwareSerial::peek() { return -1; }
int HardwareSerial::read() { return ::take(); }
size_t HardwareSerial::read(uint8_t*, size_t) { return 0; }
size_t HardwareSerial::write(uint8_t c) { return put(&c, 1); }
size_t HardwareSerial::write(const uint8_t* from, size_t size) { return put(from, size); }
HardwareSerial::operator bool() const { return true; }
size_t HardwareSerial::setRxBufferSize(size_t size) { return capacity = size; }
size_t HardwareSerial::setTxBufferSize(size_t size) { return size; }
bool HardwareSerial::setRxFIFOFull(uint8_t bytes) {
  if (fifo_full == 0) return false;  // before begin() it has no effect
  fifo_full = bytes;
  return true;
}

#endif

uint64_t EspClass::getEfuseMac() { return 0x0000665544332211; }

#endif

int main(int argc, char** argv) {
  program = argv;
  if (argc > 1) slowness = static_cast<useconds_t>(atoi(argv[1]));
  if (argc > 2) watchdog_speed = atof(argv[2]);
  signal(SIGTERM, handle);
  signal(SIGUSR1, handle);
  signal(SIGUSR2, handle);
  signal(SIGHUP, handle);
  const char* before = getenv("LINE");  // after a reset
  line = before != nullptr ? atoi(before) : posix_openpt(O_RDWR | O_NOCTTY);
  if (line < 0 || grantpt(line) < 0 || unlockpt(line) < 0) fail("cannot open a pseudo-terminal");
  const int host_side = open(ptsname(line), O_RDWR | O_NOCTTY);  // kept open, so that the line survives when the host closes it
  termios mode;
  if (host_side < 0 || tcgetattr(host_side, &mode) < 0) fail("cannot open the pseudo-terminal's host side");
  cfmakeraw(&mode);
  if (tcsetattr(host_side, TCSANOW, &mode) < 0) fail("cannot make the pseudo-terminal raw");
  setup();
  pthread_t thread;
  if (pthread_create(&thread, nullptr, watch, nullptr) != 0) fail("cannot start a thread");
  printf("pty %s\n", ptsname(line));
  fflush(stdout);
  for (;;) loop();
}
