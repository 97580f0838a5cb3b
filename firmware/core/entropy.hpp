// The board contract of secrets: random bytes that nobody can predict. A board with the fact `entropy` in its JSON implements it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf::port {

// Fills `to` with `size` random bytes of the machine's entropy source; false when it gives none.
[[nodiscard]] bool entropy(uint8_t* to, size_t size);

}  // namespace tmf::port
