// Includes ESP-IDF's task watchdog as a system header, so that our warning flags do not apply to it.
#pragma once
#pragma GCC system_header

#include <esp_task_wdt.h>
