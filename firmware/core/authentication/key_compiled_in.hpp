// The key of a board without a store: a constant of its firmware, or none. It cannot be replaced but by other firmware.
#pragma once

#include <cstdint>
#include <cstring>

#include "protocol.hpp"

namespace tmf {

// The interface that key_in_memory.hpp describes.
class BoardKey {
 public:
  static constexpr bool kIsKept = true;

  [[nodiscard]] bool load(uint8_t (&key)[protocol::kKeyBytes]) const {
    std::memcpy(key, protocol::kCompiledKey, sizeof key);
    return protocol::kHasCompiledKey;
  }

  // Takes the key that it has.
  Status save(const uint8_t* key) {
    const bool same = protocol::kHasCompiledKey && std::memcmp(key, protocol::kCompiledKey, protocol::kKeyBytes) == 0;
    return same ? Status::kOk : Status::kBadState;
  }

  Status forget() { return Status::kBadState; }
};

}  // namespace tmf
