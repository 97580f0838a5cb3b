// The deepest stack of a bare-metal board: what start-up has painted and is painted no more. Included by one file of a board.
#pragma once

#include <measuring/own_figures.hpp>

#include "startup.hpp"

extern "C" uint32_t stack_end;  // defined by the board's linker script; only its address is meaningful

void tmf::port::measures::begin() {}

uint32_t tmf::port::measures::stack_bytes() {
  const uint32_t* deepest = &stack_start;
  while (deepest != &stack_end && *deepest == bare_metal::kStackPaint) ++deepest;
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&stack_end) - reinterpret_cast<uintptr_t>(deepest));
}
