// Includes ESP-IDF's esp_partition.h as a system header, so that our warning flags do not apply to it.
#pragma once
#pragma GCC system_header

#include <esp_partition.h>
