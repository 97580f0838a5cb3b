// The recording that stands for this emulated board's sensor: a file, by semihosting.
#if __has_include(<sensor_facts.hpp>)  // generated for firmware with a sensor only
#include "../bare_metal/file_replay.hpp"
#endif
