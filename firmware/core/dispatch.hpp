// Passes requests from frames to the learner and sends its answers: one answer or one error for each request.
#pragma once

#include <cstddef>
#include <cstdint>

#include <authentication.hpp>  // generated for authenticated firmware

#include "board.hpp"
#include "frame.hpp"
#include "learner.hpp"

namespace tmf {

// The Sample whose answer waits for the end of its step; takes no memory where steps are not split.
template <bool kSplits>
struct WaitingSample {
  static bool waits_;  // never used, and never defined, as the others
  static uint8_t sequence_;
  static uint8_t type_;
};
template <>
struct WaitingSample<true> {
  bool waits_ = false;
  uint8_t sequence_ = 0;
  uint8_t type_ = 0;  // of the request: a sample, or its last part
};

// The device's side of the protocol; owns the learner. Authentication is a base because as a member it would take memory also where
// it is empty.
class Dispatcher : private WaitingSample<kSplitsSteps>, private Authentication {
 public:
  // Called once, after port::init().
  void begin() { learner_.begin(); }

  // Decodes received bytes up to the end of a frame, and answers that frame. Returns the number of bytes used, at least 1 if
  // there is one.
  size_t receive(const uint8_t* bytes, size_t size);

  // Trains one sample of the device's own, if a program is running; where steps are split, the next part of a step. Then answers
  // a pending Await, if its step is reached. Returns whether something was trained, and there may be more.
  bool work();

  Learner& learner() { return learner_; }

  // Answers a request of a type that is not in the wire table; kUnknownType for a type that it does not know either.
  using Also = Outcome (*)(uint8_t type, const uint8_t* payload, size_t size, Writer& out);
  void answer_also(Also also) { also_ = also; }

 private:
  static constexpr size_t kCapacity = board::kReceiveWindow;
  static_assert(kCapacity >= protocol::kMinReceiveWindow, "the smallest window that the protocol works with");
  // An answer keeps to the receive window too: the host's buffer may be as small as ours.
  static constexpr size_t kMostPayload = payload_capacity(kCapacity) - kMacBytes;
  static_assert(kCapacity <= UINT16_MAX, "Hello announces the window in 16 bits");

  struct Pending {
    bool active = false;
    uint8_t sequence = 0;
    protocol::Await request;
  };

  void handle(uint8_t type, uint8_t sequence, const uint8_t* payload, size_t size);
  Outcome answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out);
  Outcome answer_progress(uint32_t token, Writer& out);
  // Puts the MAC behind an answer's payload, where it has one; returns the bytes of both.
  size_t sealed(uint8_t request, uint8_t type, uint8_t sequence, size_t payload_size);
  void send(uint8_t type, uint8_t sequence, size_t payload_size);
  void send_outcome(uint8_t type, uint8_t sequence, const Outcome& outcome, size_t payload_size);

  uint8_t request_[kCapacity] = {};
  uint8_t answer_[kCapacity] = {};
  FrameDecoder decoder_;
  Pending pending_;
  Also also_ = nullptr;  // before the learner, which is aligned: here it takes no memory
  Learner learner_;
};

}  // namespace tmf
