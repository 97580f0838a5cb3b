// The entropy of this emulated board: by semihosting.
#include "../bare_metal/host_entropy.hpp"
