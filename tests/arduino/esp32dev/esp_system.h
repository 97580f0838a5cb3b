// Stand-in for ESP-IDF's esp_system.h: random bytes.
#pragma once

#include <stddef.h>

#ifdef __linux__
#include <sys/random.h>
inline void esp_fill_random(void* to, size_t size) { (void)!getentropy(to, size); }
#else
void esp_fill_random(void* to, size_t size);  // only compiled, never run
#endif
