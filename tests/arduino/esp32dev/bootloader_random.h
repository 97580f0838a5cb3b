// Stand-in for ESP-IDF's bootloader_random.h: the switch of the hardware generator's entropy.
#pragma once

inline void bootloader_random_enable() {}
inline void bootloader_random_disable() {}
