// Sample source of a device that makes no samples: the host streams them, one per message.
#include "source.hpp"

namespace tmf::source {

bool on_device() { return false; }

void make(const Key&, float*, float*) {}

}  // namespace tmf::source
