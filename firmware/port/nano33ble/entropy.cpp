// The entropy of an Arduino Nano 33 BLE: that of its nRF52840.
#include "../nrf52840/random_numbers.hpp"
