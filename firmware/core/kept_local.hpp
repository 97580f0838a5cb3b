// The local part that the last round of a device's client ended with, where its next round goes on from it.
#pragma once

#include <cstdint>

#include "model.hpp"

namespace tmf {

template <bool kKeeps>
class KeptLocal {
 public:
  void keep(const float* weights, uint32_t client) {
    for (uint32_t i = 0; i < kCount; ++i) kept_[i] = weights[model::kGlobalCount + i];
    client_ = client;
    is_kept_ = true;
  }

  // Leaves the local part alone when nothing is kept of this client.
  void restore(float* weights, uint32_t client) const {
    if (!is_kept_ || client != client_) return;
    for (uint32_t i = 0; i < kCount; ++i) weights[model::kGlobalCount + i] = kept_[i];
  }

  void forget() { is_kept_ = false; }

 private:
  static constexpr uint32_t kCount = model::kParameterCount - model::kGlobalCount;

  float kept_[kCount] = {};
  uint32_t client_ = 0;
  bool is_kept_ = false;
};

// Takes no memory where every round starts afresh.
template <>
class KeptLocal<false> {
 public:
  void keep(const float*, uint32_t) {}
  void restore(float*, uint32_t) const {}
  void forget() {}
};

}  // namespace tmf
