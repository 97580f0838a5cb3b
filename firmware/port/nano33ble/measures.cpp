// What an Arduino Nano 33 BLE knows of itself: the stack of the thread that runs the sketch, and the supply voltage.
#if __has_include(<measure_facts.hpp>)  // generated for firmware that measures itself only
#include <cmsis_os2.h>
#include <rtx_os.h>

#include <measuring/own_figures.hpp>

#include "../nrf52840/supply_voltage.hpp"

namespace {

constexpr uint32_t kPaint = 0xC5C5C5C5;
constexpr uint32_t kInUse = 64;  // words below this function's frame that its calls may use

struct Words {
  uint32_t* from;
  uint32_t* to;
};

// The stack of this thread, without the word at its bottom, which RTX checks for overruns.
Words stack() {
  const auto* thread = static_cast<const osRtxThread_t*>(osThreadGetId());
  auto* bottom = static_cast<uint32_t*>(thread->stack_mem);
  return {bottom + 1, bottom + thread->stack_size / sizeof(uint32_t)};
}

}  // namespace

void tmf::port::measures::begin() {
  auto* end = static_cast<uint32_t*>(__builtin_frame_address(0)) - kInUse;
  for (uint32_t* to = stack().from; to < end;) *to++ = kPaint;
}

uint32_t tmf::port::measures::stack_bytes() {
  const Words words = stack();
  const uint32_t* deepest = words.from;
  while (deepest != words.to && *deepest == kPaint) ++deepest;
  return static_cast<uint32_t>(words.to - deepest) * sizeof(uint32_t);
}
#endif
