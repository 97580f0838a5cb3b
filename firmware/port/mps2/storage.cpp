// The storage of this emulated board: a file, by semihosting.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include "../bare_metal/file_storage.hpp"
#endif
