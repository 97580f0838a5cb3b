// Download by difference: none, the host sends all weights. Firmware with strategy.download = "difference" has a generated header
// of this name, which includes difference/held_version.hpp instead.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that difference/held_version.hpp describes; takes neither memory nor time.
class HeldVersion {
 public:
  static constexpr bool kTakesDifferences = false;

  void forget() {}
  template <typename Downlink>
  void hold(const Downlink&) {}
  template <typename Owner>
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, uint32_t&, Owner&) {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
