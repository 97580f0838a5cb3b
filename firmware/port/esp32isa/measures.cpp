// What this emulated board knows of itself: its stack. It has no supply voltage.
#if __has_include(<measure_facts.hpp>)  // generated for firmware that measures itself only
#include "../bare_metal/painted_stack.hpp"

uint32_t tmf::port::measures::millivolts() { return 0; }
#endif
