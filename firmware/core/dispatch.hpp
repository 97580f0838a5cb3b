// From frames to the learner and back: every request gets exactly one answer, or one error that says why.
#pragma once

#include <cstddef>
#include <cstdint>

#include "board.hpp"
#include "frame.hpp"
#include "learner.hpp"

namespace tmf {

class Dispatcher {
 public:
  // Takes received bytes; answers every whole frame among them.
  void receive(const uint8_t* bytes, size_t size);

  // Trains one sample if one is due, then answers an Await whose moment has come. Returns whether there may be more to do.
  bool work();

 private:
  static constexpr size_t kCapacity = board::kReceiveWindow;
  static_assert(kCapacity >= protocol::kMinReceiveWindow, "the smallest window that the protocol works with");
  // The host's side of the line need not be wider than ours: an answer keeps to the window too.
  static constexpr size_t kMostPayload = payload_capacity(kCapacity);
  static_assert(kCapacity <= UINT16_MAX, "Hello announces the window in 16 bits");

  struct Pending {
    bool active = false;
    uint8_t sequence = 0;
    protocol::Await question;
  };

  void handle(uint8_t type, uint8_t sequence, const uint8_t* payload, size_t size);
  Outcome answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out);
  Outcome answer_progress(uint32_t token, Writer& out);
  void send(uint8_t type, uint8_t sequence, size_t payload_size);
  void send_outcome(uint8_t type, uint8_t sequence, const Outcome& outcome, size_t payload_size);

  uint8_t request_[kCapacity] = {};
  uint8_t answer_[kCapacity] = {};
  FrameDecoder decoder_{request_, kCapacity};
  Pending pending_;
  Learner learner_;
};

}  // namespace tmf
