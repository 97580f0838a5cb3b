// What a bare nRF52840 knows of itself: its stack and its supply voltage.
#if __has_include(<measure_facts.hpp>)  // generated for firmware that measures itself only
#include "../bare_metal/painted_stack.hpp"
#include "supply_voltage.hpp"
#endif
