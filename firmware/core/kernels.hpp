// The compiled routines (kernels) of the generated model, always optimised for speed, also where other code is for size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "math.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunknown-pragmas"  // a compiler without the next pragmas keeps its own optimisation level
#pragma GCC push_options
// At -Os, GCC uses VMLA (multiply, then add) on a Cortex-M4F: 3 cycles, where separate VMUL and VADD take 1 cycle each.
#pragma GCC optimize("O2")

// In angle brackets: an include folder that comes first may have its own version of these headers.
#include <kernels/losses.hpp>
#include <kernels/sgd.hpp>
#include "op_headers.hpp"

#pragma GCC pop_options
#pragma GCC diagnostic pop
