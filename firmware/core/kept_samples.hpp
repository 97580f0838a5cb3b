// The empty version of kept samples, for firmware that gets every sample of every pass or makes its own. Where samples are kept, a
// generated header of this name replaces it and includes kept/kept_samples.hpp.
#pragma once

#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that kept/kept_samples.hpp describes; takes neither memory nor time.
class KeptSamples {
 public:
  static constexpr uint32_t kMost = 0;
  static constexpr protocol::Dtype kDtype = protocol::Dtype::kF32;

  void enter(const protocol::Phase&, bool, bool) {}
  void leave() {}
  static constexpr bool holds(uint32_t) { return false; }
  static constexpr bool holds_all() { return false; }
  void keep(uint32_t, const protocol::Sample&) {}
  static Reader kept(uint32_t) { return {nullptr, 0}; }
  static constexpr float scale() { return 1.0f; }
};

}  // namespace tmf
