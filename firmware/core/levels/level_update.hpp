// Updates whose values travel as levels: PullLevels has the entries of the frozen delta as Pull has them.
//
// A message has the index of its first entry in kLevelIndexBytes bytes, and then its entries. Range code: for each entry its
// gap (the first entry has none), and its level. Packed: a string of bits, LSB first and padded with zeros to a byte, with the
// gaps in the delta's coding (delta_codec.hpp; the first gap is 0), then a second string with the levels in kBits bits each. A
// message uses the coding that holds more entries; if both hold as many, the one with fewer bytes; if these are equal too,
// packed.
//
// The generated coded_update.hpp includes this file after level_facts.hpp, which has the messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "coded/bit_string.hpp"
#include "coded/pulled_update.hpp"
#include "delta_codec.hpp"
#include "levels/level_code.hpp"
#include "protocol.hpp"

namespace tmf {

template <uint32_t kBits, bool kIsRanged>
class LevelUpdate {
 public:
  static constexpr bool kIsCoded = true;
  static constexpr bool kIsLevels = true;
  static constexpr int32_t kLargest = LevelCode<kBits>::kLargest;
  using Message = protocol::LevelDelta;

  // The boards of such firmware send nothing but levels.
  static bool allows(const protocol::Recipe& recipe) { return recipe.top_k == 0 || recipe.uplink == protocol::Dtype::kI8; }

  template <typename Encoder, typename DeltaAt, uint32_t kBins>
  Status plan(Encoder&, DeltaAt, uint32_t (&)[kBins]) {
    return Status::kOk;
  }

  // Answers PullLevels, as answer_pull says.
  template <typename Encoder, typename DeltaAt>
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail, bool is_frozen, uint32_t token,
                Encoder& delta, DeltaAt delta_at, bool& is_pulled) {
    return answer_pull<protocol::PullLevels>(*this, type, payload, size, out, detail, is_frozen, token, delta, delta_at, is_pulled);
  }

  // Writes to `data` as many entries as fit, from `rank` on, and fills `header` except for its data.
  //
  // Fails with kTooLarge if not even one entry fits, and with kBadState if `delta_at` has changed since the delta was frozen.
  template <typename Encoder, typename DeltaAt>
  static Status encode(Encoder& delta, DeltaAt delta_at, uint32_t rank, Message& header, uint8_t* data, size_t capacity, size_t& size) {
    const delta::Format& format = delta.format();
    const auto walk = [&](auto each) {
      return delta.walk(delta_at, rank, [&](uint32_t index, float value) {
        uint32_t bits = 0;
        (void)format.convert(value, bits);  // of levels it does not fail
        return each(index, static_cast<int32_t>(static_cast<int8_t>(bits)));
      });
    };
    header.rank = rank;
    header.scale = format.scale;
    return write(walk, delta.coding(), header, data, capacity, size);
  }

  // The same for any entries: `walk(each)` calls each(index, level) until it returns false.
  template <typename Walk>
  static Status write(Walk walk, protocol::Coding gaps, Message& header, uint8_t* data, size_t capacity, size_t& size) {
    if (capacity < kFirstBytes) return Status::kTooLarge;
    const size_t room = capacity - kFirstBytes;
    Fit fit, packed_fit;
    if (const Status status = measure(walk, gaps, room, fit, packed_fit); status != Status::kOk) return status;
    const bool is_packed =
        !kIsRanged || packed_fit.count > fit.count || (packed_fit.count == fit.count && packed_fit.bytes <= fit.bytes);
    if (is_packed) fit = packed_fit;
    if (fit.count == 0) return Status::kTooLarge;
    header.count = static_cast<uint16_t>(fit.count);
    header.coding = is_packed ? protocol::LevelCoding::kPacked : protocol::LevelCoding::kRange;
    header.gaps = is_packed ? gaps : protocol::Coding::kRun;
    size = kFirstBytes + fit.bytes;
    uint8_t* const to = data + kFirstBytes;
    RangeEncoder ranged(to);
    Code code;
    BitString<1> gap_bits(to), level_bits(to + fit.gap_bytes);
    return entries(walk, fit.count, [&](uint32_t number, uint32_t index, uint32_t gap, int32_t level) {
      if (number == 0)
        for (size_t i = 0; i < kFirstBytes; ++i) data[i] = static_cast<uint8_t>(index >> (8 * i));
      if (is_packed) {
        delta::write_gap(gaps, gap, gap_bits);
        level_bits.put(static_cast<uint32_t>(level) & ((1u << kBits) - 1), kBits);
        if (number + 1 == fit.count) {
          gap_bits.close();
          level_bits.close();
        }
      } else {
        code.add(ranged, number, gap, level);
        if (number + 1 == fit.count) ranged.close();
      }
      return true;
    });
  }

 private:
  static constexpr size_t kFirstBytes = protocol::kLevelIndexBytes;
  static constexpr uint32_t kMostEntries = 0xFFFF;
  static_assert(protocol::kMaxParameters <= 1u << (8 * kFirstBytes), "they hold every index");

  // How many entries a message holds in a coding, and their bytes; those of the gaps, if these have a string of their own.
  struct Fit {
    uint32_t count = 0;
    size_t bytes = 0;
    size_t gap_bytes = 0;
  };

  // The range code of gaps and levels.
  struct Code {
    GapCode gaps;
    LevelCode<kBits> levels;

    void add(RangeEncoder& to, uint32_t number, uint32_t gap, int32_t level) {
      if (number > 0) gaps.code(to, gap);
      levels.code(to, level);
    }
  };

  // Calls each(number, index, gap, level) for at most `count` entries, until it returns false.
  template <typename Walk, typename Each>
  static Status entries(Walk walk, uint32_t count, Each each) {
    uint32_t number = 0, lowest = 0;
    return walk([&](uint32_t index, int32_t level) {
      if (number == count || !each(number, index, number == 0 ? 0 : index - lowest, level)) return false;
      lowest = index + 1;
      ++number;
      return true;
    });
  }

  template <typename Walk>
  static Status measure(Walk walk, protocol::Coding gaps, size_t room, Fit& ranged, Fit& packed) {
    RangeEncoder counter(nullptr);
    Code code;
    size_t gap_bits = 0;
    bool is_full[2] = {!kIsRanged, false};
    return entries(walk, kMostEntries, [&](uint32_t number, uint32_t, uint32_t gap, int32_t level) {
      if (!is_full[0]) {
        code.add(counter, number, gap, level);
        is_full[0] = counter.size() > room;
        if (!is_full[0]) ranged = {number + 1, counter.size(), 0};
      }
      if (!is_full[1]) {
        gap_bits += delta::index_bits(gaps, gap);
        const Fit more = {number + 1, (gap_bits + 7) / 8 + (kBits * (number + 1) + 7) / 8, (gap_bits + 7) / 8};
        is_full[1] = more.bytes > room;
        if (!is_full[1]) packed = more;
      }
      return !is_full[0] || !is_full[1];
    });
  }
};

}  // namespace tmf
