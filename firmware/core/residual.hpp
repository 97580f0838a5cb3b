// Error feedback (Seide et al., 2014): the part of a delta that selection and rounding left out is added to the next delta.
#pragma once

#include <cstdint>

#include "model.hpp"

namespace tmf {

// The residual of each global weight: its change minus the change that the server has received.
template <bool kFeedsBack>
class Residual {
 public:
  // The change of global weight i plus its residual.
  float add_to(uint32_t i, float change) const { return change + residuals_[i]; }

  float at(uint32_t i) const { return residuals_[i]; }

  // Sets the residuals after a delta. `change_at(i)` is entry i of that delta, `encoder` has selected and rounded it.
  template <typename Encoder, typename ChangeAt>
  void update(const Encoder& encoder, ChangeAt change_at) {
    encoder.unsent(change_at, [this](uint32_t i, float rest) { residuals_[i] = rest; });
  }

  void clear() {
    for (float& residual : residuals_) residual = 0.0f;
  }

  void set(uint32_t i, float residual) { residuals_[i] = residual; }

 private:
  float residuals_[model::kGlobalCount] = {};
};

// For models without error feedback: takes no memory.
template <>
class Residual<false> {
 public:
  float add_to(uint32_t, float change) const { return change; }
  template <typename Encoder, typename ChangeAt>
  void update(const Encoder&, ChangeAt) {}
  void clear() {}
  void set(uint32_t, float) {}
};

}  // namespace tmf
