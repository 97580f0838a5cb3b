// The empty version of weights as levels, for firmware whose weights come with Load. With a strategy.downlink of few bits, or
// strategy.downlink_coding = "range", a generated header of this name replaces it and includes levels/level_load.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that levels/level_load.hpp describes; takes neither memory nor time.
class LevelLoad {
 public:
  static constexpr bool kTakesLevels = false;

  template <typename Owner>
  static Status answer(uint8_t, const uint8_t*, size_t, Writer&, uint32_t&, Owner&) {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
