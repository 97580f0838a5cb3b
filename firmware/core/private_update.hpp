// The empty version of private updates, for firmware that sends a delta as it is. With [privacy], a generated header of this
// name replaces it and includes privacy/private_update.hpp.
#pragma once

#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that privacy/private_update.hpp describes; takes neither memory nor time.
class PrivateUpdate {
 public:
  static constexpr bool kIsPrivate = false;

  static bool allows(const protocol::Recipe&) { return true; }
  static const Key& selection_key(const Key& key) { return key; }
  template <typename Encoder, typename ChangeAt>
  Status draw(const Encoder&, ChangeAt, const Key&) {
    return Status::kOk;
  }
  template <typename ChangeAt>
  const ChangeAt& noised(const ChangeAt& change_at) const {
    return change_at;
  }
};

}  // namespace tmf
