// What an Arduino sketch includes: Arduino.h, and all functions of TinyMetaFed for a program of your own.
#pragma once

#include "begin.hpp"
#include "device.hpp"
