// Parts of a layer that are computed at once, and numbers that the compiler loads once.
#pragma once

#include "../single/runs.hpp"

namespace tmf::sim::lanes {

using single::Constant;

// Whether the processor has 32 vector registers, so that tiles may have more sums than the core's.
#if defined(__AVX512VL__) || defined(__aarch64__)
constexpr bool kHasManyRegisters = true;
#else
constexpr bool kHasManyRegisters = false;
#endif

constexpr int least(int a, int b) { return a < b ? a : b; }

// Calls visit(Constant<size>, first) for parts of at most kMost of kAll.
template <int kAll, int kMost, typename Visit>
[[gnu::always_inline]] inline void in_parts(const Visit& visit) {
  constexpr int kSize = least(kAll, kMost);
  for (int first = 0; first + kSize <= kAll; first += kSize) visit(Constant<kSize>{}, first);
  if constexpr (kAll % kSize != 0) visit(Constant<kAll % kSize>{}, kAll / kSize * kSize);
}

// Into a register. The compiler would read a number that several instructions use in each of them; but a processor does no more
// loads than additions at once.
template <typename T>
[[gnu::always_inline]] inline T loaded(const T* from) {
  return *static_cast<const volatile T*>(from);
}

}  // namespace tmf::sim::lanes
