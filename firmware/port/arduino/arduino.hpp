// The Arduino core's header, kept apart from our warnings: what it includes counts as a system header too.
#pragma once
#pragma GCC system_header

#include <Arduino.h>
