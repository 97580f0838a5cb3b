// Products with numbers that lie side by side in memory: a port may have its own version of this file for its processor.
#pragma once

#include "adjacent_loops.hpp"
