// The empty version of secure aggregation, for firmware without it. With privacy.secure_aggregation = true, a generated header
// of this name replaces it and includes secure/secure_sum.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that secure/secure_sum.hpp describes; takes neither memory nor time.
class SecureSum {
 public:
  static constexpr bool kIsSecure = false;

  static bool allows(const protocol::Recipe&) { return true; }
  static const Key& selection_key(const Key& key) { return key; }
  void begin_cycle() {}
  bool is_opened() const { return false; }
  template <typename Encoder, typename ChangeAt>
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, uint32_t&, bool, uint32_t, Encoder&, ChangeAt) {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
