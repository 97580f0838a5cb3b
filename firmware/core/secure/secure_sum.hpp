// Secure aggregation: a board sends its update with masks that cancel in the sum over all participants, so that the server learns
// that sum alone (Bonawitz et al., Practical Secure Aggregation, 2017; without its secret sharing).
//
// Two boards share a secret by X25519. In each attempt they derive from it the same stream of numbers (BLAKE2s, ChaCha20). One of
// them adds it to the entries of its update and the other subtracts it, modulo 65536. If a participant is lost, the others
// mask the same update again for the next attempt, with other or fewer participants. The lost board's entries may then still
// arrive late, and two sums would differ by its update. Therefore each board also adds its own stream. It reveals that mask
// once the server has the entries of all participants, and then masks this update for no other attempt: an update is in one
// sum at most.
//
// The generated secure_sum.hpp includes this file after secure_facts.hpp, which has the sizes and the messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bytes.hpp"
#include "crypto/blake2s.hpp"
#include "crypto/chacha20.hpp"
#include "crypto/x25519.hpp"
#include "entropy.hpp"
#include "math.hpp"
#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

class SecureSum {
 public:
  static constexpr bool kIsSecure = true;

  // Whether a recipe sends no delta, or entries that do not depend on the delta.
  static bool allows(const protocol::Recipe& recipe) {
    return recipe.top_k == 0 || recipe.selection == protocol::Selection::kRandom;
  }

  // The key of the random selection that all boards of a round share: that of no client.
  static Key selection_key(const Key& key) { return {key.seed, 0, key.round}; }

  // A new cycle of the host begins: its update has been masked for no attempt yet.
  void begin_cycle() { is_masked_ = is_opened_ = false; }

  // Whether the update of this cycle is in a sum.
  bool is_opened() const { return is_opened_; }

  // Answers one of the messages of secure aggregation. `is_frozen`: the cycle `token` has trained, and `delta` has selected
  // the entries of its update, `change_at(i)`. `detail` becomes that of a refusal.
  template <typename Encoder, typename ChangeAt>
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail, bool is_frozen, uint32_t token,
                Encoder& delta, ChangeAt change_at) {
    switch (type) {
      case protocol::AskKey::kType: {
        protocol::AskKey request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        return ask_key(request, out);
      }
      case protocol::Seat::kType: {
        protocol::Seat request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        return seat(request);
      }
      case protocol::PullMasked::kType: {
        protocol::PullMasked request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        if (!is_frozen) return Status::kBadState;
        detail = token;
        if (request.token != token) return Status::kBadToken;
        detail = delta.count();
        if (request.rank >= delta.count()) return Status::kBadOffset;
        detail = 0;
        if (const Status status = begin_attempt(request); status != Status::kOk) return status;
        return pull(request, delta, change_at, out);
      }
      case protocol::Open::kType: {
        protocol::Open request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        if (!is_frozen) return Status::kBadState;
        detail = token;
        if (request.token != token) return Status::kBadToken;
        detail = 0;
        return open(request, out);
      }
      default: return Status::kUnknownType;
    }
  }

 private:
  static constexpr size_t kBytes = X25519::kBytes;
  static_assert(kBytes == Blake2s::kMaxDigestBytes && kBytes == ChaCha20::kKeyBytes, "secrets and seeds have the size of keys");
  static constexpr size_t kNumberBytes = sizeof(uint16_t);
  static constexpr uint32_t kPerBlock = 2 * ChaCha20::kBlockWords;  // two numbers in a word

  // A board that may take part. The secret is what this board shares with it.
  struct Member {
    bool is_known = false;
    uint8_t key[kBytes] = {};
    uint8_t secret[kBytes] = {};
  };

  struct Participants {
    uint32_t low = 0, high = 0;
    bool has(uint32_t seat) const { return (seat < 32 ? low >> seat : high >> (seat - 32)) & 1u; }
    bool operator==(const Participants& other) const { return low == other.low && high == other.high; }
  };

  Status ask_key(const protocol::AskKey& request, Writer& out) {
    if (!has_keys_ || request.run != run_) {
      uint8_t drawn[kBytes];
      if (!port::entropy(drawn, sizeof drawn)) return Status::kBadState;
      std::memcpy(private_, drawn, kBytes);
      X25519::public_key(private_, public_);
      for (Member& member : members_) member.is_known = false;
      run_ = request.run;
      has_keys_ = true;
      attempt_ = 0;
      is_masked_ = false;
    }
    protocol::OwnKey answer;
    std::memcpy(answer.key, public_, kBytes);
    answer.write(out);
    return Status::kOk;
  }

  Status seat(const protocol::Seat& request) {
    if (!has_keys_) return Status::kBadState;
    if (request.seat >= secure::kSeats) return Status::kBadValue;
    Member& member = members_[request.seat];
    if (member.is_known && std::memcmp(member.key, request.key, kBytes) == 0) return Status::kOk;
    Member taken;
    std::memcpy(taken.key, request.key, kBytes);
    taken.is_known = true;
    if (std::memcmp(request.key, public_, kBytes) != 0) {
      uint8_t shared[kBytes], any = 0;
      X25519::multiply(private_, request.key, shared);
      for (const uint8_t byte : shared) any |= byte;
      if (any == 0) return Status::kBadValue;  // RFC 7748, section 6.1: a key with which every secret would be 0
      const bool first = comes_first(request.key);
      Blake2s hash(kBytes);
      hash.add(shared, kBytes);
      hash.add(first ? public_ : request.key, kBytes);
      hash.add(first ? request.key : public_, kBytes);
      hash.finish(taken.secret);
    }
    member = taken;
    return Status::kOk;
  }

  // Takes part in a new attempt, or goes on with the latest one.
  Status begin_attempt(const protocol::PullMasked& request) {
    const Participants wanted = {request.low, request.high};
    if (is_masked_ && request.attempt == attempt_) return wanted == participants_ ? Status::kOk : Status::kBadValue;
    if (!has_keys_ || is_opened_) return Status::kBadState;
    if (request.attempt <= attempt_) return Status::kBadValue;  // a mask must not be used for two updates
    uint32_t count = 0, own = 0;
    for (uint32_t i = 0; i < 64; ++i) {
      if (!wanted.has(i)) continue;
      if (i >= secure::kSeats || !members_[i].is_known) return Status::kBadState;
      for (uint32_t k = 0; k < i; ++k)
        if (wanted.has(k) && std::memcmp(members_[k].key, members_[i].key, kBytes) == 0) return Status::kBadValue;
      own += is_own(members_[i]);
      ++count;
    }
    if (count < secure::kLeastParticipants || own != 1) return Status::kBadValue;
    attempt_ = request.attempt;
    participants_ = wanted;
    is_masked_ = true;
    return Status::kOk;
  }

  template <typename Encoder, typename ChangeAt>
  Status pull(const protocol::PullMasked& request, Encoder& delta, ChangeAt change_at, Writer& out) {
    protocol::Masked answer;
    answer.token = request.token;
    answer.attempt = request.attempt;
    answer.rank = request.rank;
    answer.write_head(out);
    uint32_t count = static_cast<uint32_t>(out.left() / kNumberBytes);
    if (count > delta.count() - request.rank) count = delta.count() - request.rank;
    uint8_t* const data = out.reserve(count * kNumberBytes);
    uint8_t* at = data;
    const bool all = delta.visit(change_at, request.rank, count, [&](float change) {
      put(at, integer(change));
      at += kNumberBytes;
    });
    if (!all) return Status::kBadState;
    uint8_t seed[kBytes];
    for (uint32_t i = 0; i < secure::kSeats; ++i) {
      const Member& member = members_[i];
      if (!participants_.has(i)) continue;
      make_seed(is_own(member) ? private_ : member.secret, seed);
      mask(seed, is_own(member) || comes_first(member.key), data, request.rank, count);
    }
    return Status::kOk;
  }

  Status open(const protocol::Open& request, Writer& out) {
    if (!is_masked_) return Status::kBadState;
    if (request.attempt != attempt_) return Status::kBadValue;
    is_opened_ = true;
    protocol::Opened answer;
    make_seed(private_, answer.seed);
    answer.write(out);
    return Status::kOk;
  }

  // Rounds a change to the nearest integer, ties to even, after clipping.
  static uint16_t integer(float change) {
    float scaled = change * secure::kPerUnit;
    if (scaled > secure::kLevels) scaled = secure::kLevels;
    if (scaled < -secure::kLevels) scaled = -secure::kLevels;
    return static_cast<uint16_t>(bits_of<uint32_t>(scaled + kRounder));
  }

  // The seed of a stream in this attempt. A secret has one size and stands first, so this hash is a secret random function.
  void make_seed(const uint8_t* secret, uint8_t* seed) const {
    uint8_t context[12];
    Writer out(context, sizeof context);
    out.u32(attempt_);
    out.u32(participants_.low);
    out.u32(participants_.high);
    Blake2s hash(kBytes);
    hash.add(secret, kBytes);
    hash.add(context, sizeof context);
    hash.finish(seed);
  }

  // Adds the numbers of a stream to those of `data`, or subtracts them. Number i of the stream is for the entry of rank i.
  static void mask(const uint8_t* seed, bool adds, uint8_t* data, uint32_t rank, uint32_t count) {
    ChaCha20 stream(seed);
    uint32_t block[ChaCha20::kBlockWords];
    for (uint32_t i = 0; i < count; ++i, ++rank, data += kNumberBytes) {
      const uint32_t at = rank % kPerBlock;
      if (i == 0 || at == 0) stream.write(rank / kPerBlock, block);
      const uint32_t number = block[at / 2] >> 16 * (at % 2);
      const uint32_t entry = data[0] | static_cast<uint32_t>(data[1]) << 8;
      put(data, static_cast<uint16_t>(adds ? entry + number : entry - number));
    }
  }

  static void put(uint8_t* to, uint16_t number) {
    to[0] = static_cast<uint8_t>(number);
    to[1] = static_cast<uint8_t>(number >> 8);
  }

  bool is_own(const Member& member) const { return std::memcmp(member.key, public_, kBytes) == 0; }
  // Whether this board adds the stream that it shares with the board of `key`, which then subtracts it.
  bool comes_first(const uint8_t* key) const { return std::memcmp(public_, key, kBytes) < 0; }

  bool has_keys_ = false;
  bool is_masked_ = false;  // the update of this cycle, for attempt_
  bool is_opened_ = false;
  uint32_t run_ = 0;
  uint32_t attempt_ = 0;  // the latest one with these keys
  Participants participants_;
  uint8_t private_[kBytes] = {};
  uint8_t public_[kBytes] = {};
  Member members_[secure::kSeats];
};

}  // namespace tmf
