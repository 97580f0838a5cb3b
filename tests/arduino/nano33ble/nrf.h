// Stand-in for Nordic's nrf.h: the registers of factory information, watchdog and flash cache, as variables of the test.
#pragma once

#include <stdint.h>

typedef struct {
  volatile const uint32_t DEVICEID[2];
} NRF_FICR_Type;

extern NRF_FICR_Type factory_information;
#define NRF_FICR (&factory_information)

typedef struct {
  volatile uint32_t TASKS_START;
  volatile uint32_t CRV;
  volatile uint32_t RREN;
  volatile uint32_t CONFIG;
  volatile uint32_t RR[8];
} NRF_WDT_Type;

typedef struct {
  volatile uint32_t ICACHECNF;
} NRF_NVMC_Type;

extern NRF_NVMC_Type flash_controller;
#define NRF_NVMC (&flash_controller)

extern NRF_WDT_Type watchdog;
#define NRF_WDT (&watchdog)
