// Stand-in for Nordic's nrf.h: the factory information registers, as a variable that the test sets.
#pragma once

#include <stdint.h>

typedef struct {
  volatile const uint32_t DEVICEID[2];
} NRF_FICR_Type;

extern NRF_FICR_Type factory_information;
#define NRF_FICR (&factory_information)
