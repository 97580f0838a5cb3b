// Registers of the nRF52840 that this port uses; addresses from Nordic's product specification.
#pragma once

#include <cstddef>

#include "../cortex_m/cortex_m.hpp"

namespace tmf::nrf52840 {

using cortex_m::Register;

// Writing 1 to a task starts it. An event reads 1 after it has happened, until 0 is written to it.
constexpr uint32_t kTrigger = 1;
constexpr uint32_t kNoEvent = 0;

// Task of the clock: takes the 64 MHz from the crystal oscillator.
inline Register& start_crystal() { return *reinterpret_cast<Register*>(0x40000000); }

// UART that transfers by DMA from and to RAM only.
struct Uarte {
  Register start_receive;
  Register stop_receive;
  Register start_transmit;
  Register stop_transmit;
  uint32_t reserved0[64];
  Register received;  // event: maximum_count bytes are in RAM
  uint32_t reserved1[3];
  Register transmitted;  // event: the last byte is sent
  uint32_t reserved2[120];
  Register interrupts_on;  // bits written as 1 are set
  Register interrupts_off;  // bits written as 1 are cleared
  uint32_t reserved3[125];
  Register enable;
  uint32_t reserved4;
  Register pin_rts;
  Register pin_transmit;
  Register pin_cts;
  Register pin_receive;
  uint32_t reserved5[3];
  Register baud_rate;
  uint32_t reserved6[3];
  struct Buffer {
    Register address;
    Register maximum_count;
    Register amount;
    uint32_t reserved;
  } receive, transmit;
};
static_assert(offsetof(Uarte, received) == 0x110 && offsetof(Uarte, transmitted) == 0x120);
static_assert(offsetof(Uarte, interrupts_on) == 0x304 && offsetof(Uarte, enable) == 0x500);
static_assert(offsetof(Uarte, baud_rate) == 0x524 && offsetof(Uarte, transmit) == 0x544);
constexpr uint32_t kUarteInterruptNumber = 2;
constexpr uint32_t kUarteReceived = 1u << 4;  // in interrupts_on, interrupts_off
constexpr uint32_t kUarteEnable = 8;
constexpr uint32_t kUarteBaud115200 = 0x01D60000;

struct Timer {
  Register start;
  uint32_t reserved0[15];
  Register capture[6];  // task: copies the counter to captured[i]
  uint32_t reserved1[299];
  Register mode;
  Register width;
  uint32_t reserved2;
  Register prescaler;  // divides 16 MHz by 2 to this power
  uint32_t reserved3[11];
  Register captured[6];
};
static_assert(offsetof(Timer, capture) == 0x40 && offsetof(Timer, mode) == 0x504);
static_assert(offsetof(Timer, prescaler) == 0x510 && offsetof(Timer, captured) == 0x540);
constexpr uint32_t kTimerCountsTime = 0;
constexpr uint32_t kTimer32Bits = 3;

// Cache of the instructions read from flash, 2 KB; off at reset.
inline Register& instruction_cache() { return *reinterpret_cast<Register*>(0x4001E540); }
constexpr uint32_t kCacheOn = 1;

struct Gpio {
  uint32_t reserved0[322];
  Register set_high;
  uint32_t reserved1[3];
  Register set_output;
  uint32_t reserved2[121];
  Register pin[32];
};
static_assert(offsetof(Gpio, set_high) == 0x508 && offsetof(Gpio, set_output) == 0x518 && offsetof(Gpio, pin) == 0x700);
constexpr uint32_t kPinInputPulledUp = 3u << 2;

inline Uarte& uarte0() { return *reinterpret_cast<Uarte*>(0x40002000); }
inline Timer& timer0() { return *reinterpret_cast<Timer*>(0x40008000); }
inline Gpio& port1() { return *reinterpret_cast<Gpio*>(0x50000300); }
constexpr uint32_t on_port1(uint32_t pin) { return 1u << 5 | pin; }  // in the format of pin_transmit and pin_receive

// The factory-set 64-bit device number, low word first.
struct DeviceId {
  Register low;
  Register high;
};
inline DeviceId& device_id() { return *reinterpret_cast<DeviceId*>(0x10000060); }

}  // namespace tmf::nrf52840
