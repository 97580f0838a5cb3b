// The empty version of samples in parts, for firmware whose samples fit into one message. For larger samples, a generated
// header of this name replaces it and includes parts/sample_parts.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that parts/sample_parts.hpp describes; takes neither memory nor time.
class SampleParts {
 public:
  static constexpr bool kTakesParts = false;
  static constexpr bool kReadsBytes = false;
  static constexpr uint32_t kPartBytes = 0;
  static constexpr size_t kHeadBytes = 0;

  static constexpr bool waits() { return false; }
  void drop() {}
  template <typename Learner>
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, uint32_t&, Learner&) {
    return Status::kUnknownType;
  }
  static void write_head(Writer&, uint32_t, protocol::Dtype, float) {}
  template <typename Learner>
  Status report(uint32_t, Writer&, uint32_t&, const Learner&) const {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
