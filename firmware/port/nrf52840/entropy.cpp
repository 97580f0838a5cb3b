// The entropy of a bare nRF52840.
#include "random_numbers.hpp"
