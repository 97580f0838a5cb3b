// What a process of this machine knows of itself: neither its stack's depth nor a voltage.
#if __has_include(<measure_facts.hpp>)  // generated for firmware that measures itself only
#include <measuring/own_figures.hpp>

void tmf::port::measures::begin() {}
uint32_t tmf::port::measures::stack_bytes() { return 0; }
uint32_t tmf::port::measures::millivolts() { return 0; }
#endif
