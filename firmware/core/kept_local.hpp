// The local weights at the end of a client's last round on this device, from which its next round may start.
#pragma once

#include <cstdint>

#include "model.hpp"

namespace tmf {

// Saves the local weights of one client from round to round. `weights` are all weights of the model.
template <bool kKeeps>
class KeptLocal {
 public:
  void save(const float* weights, uint32_t client) {
    for (uint32_t i = 0; i < kCount; ++i) saved_[i] = weights[model::kGlobalCount + i];
    client_ = client;
    is_saved_ = true;
  }

  // Does nothing if no local weights of this client are saved.
  void restore(float* weights, uint32_t client) const {
    if (!is_saved_ || client != client_) return;
    for (uint32_t i = 0; i < kCount; ++i) weights[model::kGlobalCount + i] = saved_[i];
  }

  void clear() { is_saved_ = false; }

  // Sets the local weights of one client one by one, then their client.
  void set(uint32_t i, float weight) { saved_[i] = weight; }
  void set_client(uint32_t client) {
    client_ = client;
    is_saved_ = true;
  }

 private:
  static constexpr uint32_t kCount = model::kParameterCount - model::kGlobalCount;

  float saved_[kCount] = {};
  uint32_t client_ = 0;
  bool is_saved_ = false;
};

// For models whose local weights do not continue from the last round: takes no memory.
template <>
class KeptLocal<false> {
 public:
  void save(const float*, uint32_t) {}
  void restore(float*, uint32_t) const {}
  void clear() {}
  void set(uint32_t, float) {}
  void set_client(uint32_t) {}
};

}  // namespace tmf
