// The board's side of authentication: proves that it has its key, makes the host prove it, and then takes no frame without a MAC.
// docs/authentication.md describes messages, keys and rules.
//
// The generated authentication.hpp includes this file after authentication_facts.hpp, which has the messages, and after one of the
// key_*.hpp beside this file, which has the class BoardKey.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bytes.hpp"
#include "crc32.hpp"
#include "crypto/blake2s.hpp"
#include "crypto/poly1305.hpp"
#include "entropy.hpp"
#include "protocol.hpp"

namespace tmf {

// Authenticates the frames of one line. All zero at first: a board has no session after a reset.
//
// A request's counter is not on the line: it is the one whose lowest byte is the frame's sequence number and that is nearest to
// the last counter taken, from kBehind before it to 255 - kBehind after it. A counter above the last one is taken; the last one
// is taken again, because the host repeats a request whose answer it lost, with the same bytes; a lower one is not. An answer has
// the counter of its request.
class Authentication {
 public:
  static constexpr size_t kMacBytes = protocol::kMacBytes;

  enum class Verdict : uint8_t {
    kTaken,    // to be answered
    kDropped,  // forged or replayed, and counted, or damaged: not answered
    kRefused,  // sent without a session: answered with kBadState, without a MAC
  };

  // Decides about a received frame (type, sequence, payload) of `size` bytes, behind which is its CRC; without its MAC in `size` if
  // it is taken with one. A right MAC says more than a CRC, which is looked at in other frames only.
  [[gnu::noinline]] Verdict admit(const uint8_t* frame, size_t& size) {
    enrolls_openly_ = frame[0] == protocol::Enroll::kType && may_enroll_openly(frame, size);
    const bool opens = is_open(frame[0]);
    if (!opens && in_session_ && size >= protocol::kFrameHeaderBytes + kMacBytes) {
      const size_t content = size - kMacBytes;
      const uint8_t ahead = static_cast<uint8_t>(frame[1] - static_cast<uint8_t>(counter_));
      const bool is_behind = ahead > UINT8_MAX - kBehind;
      const uint64_t counter = counter_ + ahead - (is_behind ? UINT8_MAX + 1 : 0);
      uint8_t expected[kMacBytes];
      write_mac(kDown, counter, frame, content, expected);
      if (equal(expected, frame + content, kMacBytes)) {
        if (is_behind) {
          ++replayed_;
          return Verdict::kDropped;
        }
        counter_ = counter;
        size = content;
        return Verdict::kTaken;
      }
    }
    if (crc32(frame, size + protocol::kFrameCrcBytes) != kCrc32Residue) return Verdict::kDropped;
    if (opens) return Verdict::kTaken;
    ++forged_;
    return in_session_ ? Verdict::kDropped : Verdict::kRefused;
  }

  // Puts a MAC behind the answer `frame` of `size` bytes to a request of the type `request`, if it has one; returns its new size.
  size_t seal(uint8_t request, uint8_t* frame, size_t size) const {
    if (!in_session_ || is_open(request)) return size;
    const uint8_t behind = static_cast<uint8_t>(static_cast<uint8_t>(counter_) - frame[1]);
    write_mac(kUp, counter_ - behind, frame, size, frame + size);
    return size + kMacBytes;
  }

  // Answers the messages of authentication: `frame` is the request of `size` bytes. `say_hello(Writer&)` writes the answer to
  // Hello, which the proofs cover. If a session begins, nobody `waits` any more.
  template <typename SayHello>
  Status answer(const uint8_t* frame, size_t size, SayHello say_hello, Writer& out, bool& waits) {
    const uint8_t* const payload = frame + protocol::kFrameHeaderBytes;
    size -= protocol::kFrameHeaderBytes;
    switch (frame[0]) {
      case protocol::Enroll::kType:
        return enroll(payload, size, out);
      case protocol::Challenge::kType:
        return challenge(payload, size, say_hello, out);
      case protocol::Prove::kType:
        return prove(frame, size, say_hello, out, waits);
      case protocol::AskRefusals::kType: {
        if (size != protocol::AskRefusals::kFixedSize) return Status::kBadLength;
        out.u32(forged_);
        out.u32(replayed_);
        out.u32(sessions_);
        return Status::kOk;
      }
      case protocol::Forget::kType: {
        if (size != protocol::Forget::kFixedSize) return Status::kBadLength;
        return key_.forget();
      }
      default:
        return Status::kUnknownType;
    }
  }

 private:
  static constexpr size_t kNonceBytes = sizeof protocol::Challenge::nonce;
  static constexpr size_t kProofBytes = sizeof protocol::Prove::proof;
  static constexpr size_t kKeyBytes = sizeof protocol::Enroll::key;
  static constexpr uint8_t kBehind = 32;
  enum Direction : uint8_t { kDown, kUp };
  static constexpr uint8_t kHashed = 2;  // is added to the direction of a frame whose hash stands for it
  // What a keyed hash over both nonces and the answer to Hello is used for. Earlier firmware had 0 to 3, and other MACs.
  enum Label : uint8_t { kBoardProves = 4, kHostProves, kSessionKey, kFactor };

  // Whether such frames come and are answered without a MAC, in a session too.
  bool is_open(uint8_t type) const {
    return type == protocol::Hello::kType || type == protocol::Challenge::kType || type == protocol::Prove::kType ||
           (type == protocol::Enroll::kType && enrolls_openly_);
  }

  // Compares secrets in a time that does not depend on where they differ.
  static bool equal(const uint8_t* one, const uint8_t* other, size_t size) {
    uint8_t difference = 0;
    for (size_t i = 0; i < size; ++i) difference = static_cast<uint8_t>(difference | (one[i] ^ other[i]));
    return difference == 0;
  }

  // Whether a key is taken without a MAC: if the board has none, or has this one, because an answer was lost.
  bool may_enroll_openly(const uint8_t* frame, size_t size) const {
    uint8_t key[kKeyBytes];
    if (size != protocol::kFrameHeaderBytes + kKeyBytes) return false;
    return !key_.load(key) || equal(key, frame + protocol::kFrameHeaderBytes, kKeyBytes);
  }

  Status enroll(const uint8_t* payload, size_t size, Writer& out) {
    if (size != protocol::Enroll::kFixedSize) return Status::kBadLength;
    out.u16(BoardKey::kIsKept ? 1 : 0);
    return key_.save(payload);
  }

  // A repeated nonce of the host has the same answer.
  template <typename SayHello>
  [[gnu::noinline]] Status challenge(const uint8_t* payload, size_t size, SayHello say_hello, Writer& out) {
    if (size != protocol::Challenge::kFixedSize) return Status::kBadLength;
    if (!is_challenged_ || !equal(nonces_, payload, kNonceBytes)) {
      is_challenged_ = has_begun_ = false;
      std::memcpy(nonces_, payload, kNonceBytes);
      if (!port::entropy(nonces_ + kNonceBytes, kNonceBytes)) return Status::kBadState;
      is_challenged_ = true;
    }
    uint8_t key[kKeyBytes], proof[kKeyBytes];
    if (!key_.load(key)) return Status::kBadState;
    derive(key, kBoardProves, say_hello, proof);
    out.bytes(nonces_ + kNonceBytes, kNonceBytes);
    out.bytes(proof, kProofBytes);
    return Status::kOk;
  }

  // A repeated proof has the same answer, and the session goes on.
  template <typename SayHello>
  [[gnu::noinline]] Status prove(const uint8_t* frame, size_t size, SayHello say_hello, Writer& out, bool& waits) {
    if (size != protocol::Prove::kFixedSize) return Status::kBadLength;
    uint8_t key[kKeyBytes], derived[kKeyBytes];
    if (!is_challenged_ || !key_.load(key)) return Status::kBadState;
    derive(key, kHostProves, say_hello, derived);
    if (!equal(derived, frame + protocol::kFrameHeaderBytes, kProofBytes)) {
      ++forged_;
      return Status::kBadValue;
    }
    if (!has_begun_) {
      derive(key, kFactor, say_hello, factor_);
      derive(key, kSessionKey, say_hello, derived);
      Blake2s(kMacBytes, derived, kKeyBytes).keep(session_);
      counter_ = frame[1];
      ++sessions_;
      has_begun_ = in_session_ = true;
      waits = false;  // the host that waited has gone
    }
    out.u32(sessions_);
    return Status::kOk;
  }

  // Writes kKeyBytes bytes, of which a proof and a factor are the beginning.
  template <typename SayHello>
  [[gnu::noinline]] void derive(const uint8_t* key, uint8_t label, SayHello say_hello, uint8_t* to) const {
    Blake2s hash(kKeyBytes, key, kKeyBytes);
    uint8_t said[1 + protocol::HelloAnswer::kFixedSize];
    Writer hello(said, sizeof said);
    hello.u8(label);
    say_hello(hello);
    hash.add(said, sizeof said);
    hash.add(nonces_, sizeof nonces_);
    hash.finish(to);
  }

  // A MAC takes one block of BLAKE2s: where direction, counter and frame do not fit it, the frame's hash stands for the frame. That
  // hash is seen by nobody, so that a counter may come with two frames, as two answers to a repeated request have it.
  [[gnu::noinline]] void write_mac(Direction direction, uint64_t counter, const uint8_t* frame, size_t size, uint8_t* to) const {
    uint8_t head[1 + sizeof counter], hashed[Poly1305::kBytes];
    const bool is_long = size > Blake2s::kBlockBytes - sizeof head;
    head[0] = static_cast<uint8_t>(direction + (is_long ? kHashed : 0));
    std::memcpy(head + 1, &counter, sizeof counter);
    if (is_long) {
      Poly1305::hash(factor_, frame, size, hashed);
      frame = hashed;
      size = sizeof hashed;
    }
    Blake2s hash(kMacBytes, session_);
    hash.add(head, sizeof head);
    hash.add(frame, size);
    hash.finish(to);
  }

  BoardKey key_;
  bool enrolls_openly_ = false;  // the last Enroll came without a MAC
  bool is_challenged_ = false;   // both nonces are there
  bool has_begun_ = false;       // the session is that of these nonces
  bool in_session_ = false;
  uint8_t nonces_[2 * kNonceBytes] = {};  // the host's, then the board's
  Blake2s::State session_ = {};           // the hash after the session's key
  uint8_t factor_[kKeyBytes] = {};        // begins with the factor for the hash of long frames
  uint64_t counter_ = 0;                  // of the last request taken
  uint32_t forged_ = 0;
  uint32_t replayed_ = 0;
  uint32_t sessions_ = 0;
};

}  // namespace tmf
