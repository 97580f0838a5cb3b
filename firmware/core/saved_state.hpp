// The empty version of the learner's saved state, for firmware without a store. With board.store = true, a generated header of
// this name replaces it and includes store/saved_state.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that store/saved_state.hpp describes; takes neither memory nor time.
class SavedState {
 public:
  static constexpr bool kIsStored = false;

  void open() {}
  bool load_weights(float*) { return false; }
  void load_key(Key&) {}
  template <typename Kept, typename Owed>
  void load_round(const Key&, bool, Kept&, Owed&) {}
  template <typename Encoder, typename ChangeAt>
  void save_round(const Key&, const Encoder&, ChangeAt, const float*) {}
  void note_learned() {}
  static bool is_due(uint32_t) { return false; }
  template <typename Owed>
  Status save(const float*, const Key&, const Owed&, const uint8_t*) {
    return Status::kBadState;
  }
  template <typename Keep>
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, const Keep&) {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
