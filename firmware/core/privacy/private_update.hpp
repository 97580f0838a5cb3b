// The update of a private experiment: scaled down to a norm, rounded at random to integers, with discrete Gaussian noise added.
// The generated private_update.hpp includes this file after privacy_facts.hpp, which has the integers and the table of the noise.
//
// Privacy depends on integers alone: the sum of squares of the rounded entries is compared with its bound, and the noise comes
// from a table. A rounding error of a float costs accuracy, not privacy.
#pragma once

#include <cstdint>

#include "bytes.hpp"
#include "crypto/blake2s.hpp"
#include "entropy.hpp"
#include "math.hpp"
#include "prng.hpp"
#include "protocol.hpp"

namespace tmf {

class PrivateUpdate {
 public:
  static constexpr bool kIsPrivate = true;

  // Whether a recipe sends no delta, or one that bound and noise were computed for.
  static bool allows(const protocol::Recipe& recipe) {
    return recipe.top_k == 0 || (recipe.top_k == privacy::kEntries && recipe.uplink == privacy::kUplink &&
                                 recipe.selection == protocol::Selection::kRandom);
  }

  // All clients of a round send the same entries, so that the sum of each has the noise of all.
  static Key selection_key(const Key& key) { return {key.seed, 0, key.round}; }

  // Draws a new secret for the noise, and chooses scale and rounding for the selected entries of a delta, so that the bound is
  // kept. Fails with kBadState where the board has no random bytes; then nothing may be sent.
  template <typename Encoder, typename ChangeAt>
  Status draw(const Encoder& encoder, ChangeAt change_at, const Key& key) {
    if (!draw_secret()) return Status::kBadState;
    key_ = key;
    block_ = UINT32_MAX;
    float squares = 0.0f;
    encoder.selected([&](uint32_t i) { squares += change_at(i) * change_at(i); });
    const float norm = sqrt(squares);
    per_step_ = norm > privacy::kClip ? privacy::kClip / norm * privacy::kStepsPerUnit : privacy::kStepsPerUnit;
    for (attempt_ = 0; attempt_ < kNothing; ++attempt_) {
      uint64_t sum = 0;
      encoder.selected([&](uint32_t i) {
        const int32_t steps = rounded(change_at(i), i);
        sum += static_cast<uint64_t>(static_cast<int64_t>(steps) * steps);
      });
      if (sum <= privacy::kLargestSquare) break;
    }
    return Status::kOk;
  }

  // Entry i of the update as an integer: `change` rounded, and noise. The same for every call until the next `draw`.
  int32_t level(float change, uint32_t i) { return rounded(change, i) + noise(i); }

  // The delta that is sent in place of `change_at`: multiples of kStep.
  template <typename ChangeAt>
  struct Noised {
    static constexpr float kStep = privacy::kStep;
    ChangeAt change_at;
    PrivateUpdate& update;
    float operator()(uint32_t i) const { return static_cast<float>(update.level(change_at(i), i)) * kStep; }
  };
  template <typename ChangeAt>
  Noised<ChangeAt> noised(ChangeAt change_at) {
    return {change_at, *this};
  }

 private:
  // Attempts to keep the bound: rounding at random, then towards zero, then an update of nothing but noise.
  static constexpr uint32_t kTowardsZero = 16;
  static constexpr uint32_t kNothing = kTowardsZero + 1;
  static constexpr uint32_t kFirstStream = 240;  // of the random numbers for rounding: one stream for each attempt, no other use
  static constexpr uint32_t kWordBytes = 8;
  static constexpr uint32_t kWordsPerBlock = Blake2s::kMaxDigestBytes / kWordBytes;
  static constexpr size_t kSecretBytes = 32;

  bool draw_secret() {
    if constexpr (privacy::kHasPublicSeed) {
      Writer out(secret_, kSecretBytes);
      for (size_t i = 0; i < kSecretBytes / sizeof(uint32_t); ++i) out.u32(i == 0 ? privacy::kPublicSeed : 0);
      return true;
    } else {
      return port::entropy(secret_, kSecretBytes);
    }
  }

  int32_t rounded(float change, uint32_t i) const {
    if (attempt_ == kNothing) return 0;
    constexpr float kMost = static_cast<float>(privacy::kLargest);
    float steps = change * per_step_;
    if (!(steps > -kMost)) steps = -kMost;  // NaN, of a change that is infinite, too
    if (steps > kMost) steps = kMost;
    const int32_t whole = static_cast<int32_t>(steps);  // towards zero
    if (attempt_ == kTowardsZero) return whole;
    const float rest = steps - static_cast<float>(whole);
    const Pair random = threefry({key_.seed, key_.client}, {key_.round, (kFirstStream + attempt_) << 24 | (i & 0xFFFFFF)});
    const float share = uniform(random.first);
    if (share < rest) return whole + 1;
    return share < -rest ? whole - 1 : whole;
  }

  // The whole table is read for every entry, so that the time does not tell the noise.
  int32_t noise(uint32_t i) {
    const uint64_t word = secret_word(i);
    uint32_t magnitude = 0;
    for (const uint64_t threshold : privacy::kThresholds) magnitude += (word >> 1) >= threshold ? 1u : 0u;
    const int32_t sign = -static_cast<int32_t>(word & 1);  // 0, or -1 with all bits set
    return (static_cast<int32_t>(magnitude) ^ sign) - sign;
  }

  // Random word i: part of BLAKE2s over the secret, the client's round and the number of the block of words.
  uint64_t secret_word(uint32_t i) {
    if (block_ != i / kWordsPerBlock) {
      block_ = i / kWordsPerBlock;
      uint8_t counter[16];
      Writer out(counter, sizeof counter);
      out.u32(key_.seed);
      out.u32(key_.client);
      out.u32(key_.round);
      out.u32(block_);
      Blake2s hash(Blake2s::kMaxDigestBytes);
      hash.add(secret_, kSecretBytes);
      hash.add(counter, sizeof counter);
      hash.finish(words_);
    }
    Reader in(words_ + i % kWordsPerBlock * kWordBytes, kWordBytes);
    const uint64_t low = in.u32();
    return low | static_cast<uint64_t>(in.u32()) << 32;
  }

  uint8_t secret_[kSecretBytes] = {};
  uint8_t words_[Blake2s::kMaxDigestBytes] = {};
  uint32_t block_ = 0;  // of which words_ are
  Key key_;
  float per_step_ = 0.0f;  // steps of the grid for a change of 1
  uint32_t attempt_ = 0;  // 0, so that no memory but zeros is initialised
};

}  // namespace tmf
