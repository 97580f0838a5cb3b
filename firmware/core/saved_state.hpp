// What the learner keeps over a reset: nothing. Firmware with a store (board.store = true) has a generated header of this name,
// which includes store/saved_state.hpp instead.
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
  void open() {}
  bool load_weights(float*) { return false; }
  template <typename Kept, typename Owed>
  void load_round(const Key&, bool, Kept&, Owed&) {}
  template <typename Encoder, typename ChangeAt>
  void save_round(const Key&, const Encoder&, ChangeAt, const float*) {}
  void note_learned() {}
  Status answer(uint8_t, const uint8_t*, size_t, Writer&, const float*, const Key&) { return Status::kUnknownType; }
};

}  // namespace tmf
