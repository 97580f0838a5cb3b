// The key of a board that runs as a process without a store: in memory, so that the host gives it anew at each start.
#pragma once

#include <cstdint>
#include <cstring>

#include "protocol.hpp"

namespace tmf {

// Has no key at first.
class BoardKey {
 public:
  static constexpr bool kIsKept = false;  // over a reset

  // Writes the key to `key`; false if there is none.
  [[nodiscard]] bool load(uint8_t (&key)[protocol::kKeyBytes]) const {
    std::memcpy(key, key_, sizeof key);
    return is_there_;
  }

  Status save(const uint8_t* key) {
    std::memcpy(key_, key, sizeof key_);
    is_there_ = true;
    return Status::kOk;
  }

  Status forget() {
    std::memset(key_, 0, sizeof key_);
    is_there_ = false;
    return Status::kOk;
  }

 private:
  bool is_there_ = false;
  uint8_t key_[protocol::kKeyBytes] = {};
};

}  // namespace tmf
