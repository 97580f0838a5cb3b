// The empty version of coded updates, for firmware that answers Pull. A generated header of this name replaces it: with
// strategy.uplink_coding = "rice" it includes coded/coded_update.hpp, where updates travel as levels levels/level_update.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that coded/coded_update.hpp describes; takes neither memory nor time.
class CodedUpdate {
 public:
  static constexpr bool kIsCoded = false;
  static constexpr bool kIsLevels = false;
  static constexpr int32_t kLargest = 127;  // magnitude of a value in I8

  static bool allows(const protocol::Recipe&) { return true; }
  template <typename Encoder, typename DeltaAt, uint32_t kBins>
  Status plan(Encoder&, DeltaAt, uint32_t (&)[kBins]) {
    return Status::kOk;
  }
  template <typename Encoder, typename DeltaAt>
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, uint32_t&, bool, uint32_t, Encoder&, DeltaAt, bool&) {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
