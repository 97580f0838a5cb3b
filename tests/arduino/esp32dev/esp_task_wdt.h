// Stand-in for the esp_task_wdt.h of ESP-IDF 4.4, which arduino-esp32 2.0 contains: the declarations that our port uses.
#pragma once

#include <stdint.h>

typedef int esp_err_t;
#define ESP_OK 0
typedef void* TaskHandle_t;

extern "C" {
esp_err_t esp_task_wdt_init(uint32_t timeout, bool panic);
esp_err_t esp_task_wdt_add(TaskHandle_t handle);
esp_err_t esp_task_wdt_reset(void);
}
