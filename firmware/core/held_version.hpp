// The empty version of the download by difference, for firmware that gets all weights in every round. With strategy.download =
// "difference", a generated header of this name replaces it and includes difference/held_version.hpp.
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
