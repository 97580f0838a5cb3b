// The kernels of the generated model, compiled for speed whatever the rest of the firmware is compiled for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "math.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunknown-pragmas"  // a compiler that does not know the next ones keeps its own level
#pragma GCC push_options
// At -Os a Cortex-M4F gets chained multiply-accumulates, 3 cycles each, where a product and a sum take 1 each.
#pragma GCC optimize("O2")

// In angle brackets: a folder before this one may bring some of its own.
#include <kernels/losses.hpp>
#include <kernels/sgd.hpp>
#include "op_headers.hpp"

#pragma GCC pop_options
#pragma GCC diagnostic pop
