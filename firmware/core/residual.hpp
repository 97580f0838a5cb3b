// Error feedback: what a device has not sent, by selection or by rounding, goes into its next change (Seide et al. 2014).
#pragma once

#include <cstdint>

#include "model.hpp"

namespace tmf {

template <bool kFeedsBack>
class Residual {
 public:
  // The change of global weight i, with what is still owed of it.
  float with(uint32_t i, float change) const { return change + owed_[i]; }

  // After a delta: of each entry of `change_at`, what the server, reading what `encoder` has sent, does not have.
  template <typename Encoder, typename ChangeAt>
  void keep(const Encoder& encoder, ChangeAt change_at) {
    encoder.unsent(change_at, [this](uint32_t i, float rest) { owed_[i] = rest; });
  }

  void forget() {
    for (float& rest : owed_) rest = 0.0f;
  }

 private:
  float owed_[model::kGlobalCount] = {};
};

// Takes no memory where what is not sent is lost.
template <>
class Residual<false> {
 public:
  float with(uint32_t, float change) const { return change; }
  template <typename Encoder, typename ChangeAt>
  void keep(const Encoder&, ChangeAt) {}
  void forget() {}
};

}  // namespace tmf
