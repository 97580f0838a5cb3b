// The empty version of sensing, for firmware without a sensor. With board.sensor, a generated header of this name replaces it
// and includes sensor/sensing.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that sensor/sensing.hpp describes; takes neither memory nor time.
class Sensing {
 public:
  static constexpr bool kSenses = false;

  void begin() {}
  bool work(bool) { return false; }
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, uint32_t&) { return Status::kUnknownType; }
};

}  // namespace tmf
