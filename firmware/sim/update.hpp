// What the host receives of one client's update, and how many bytes that is on the line: the results of DeltaEncoder, of its
// frames and of the host's decoder, computed for a whole update at once.
#pragma once

#include <cstdint>
#include <cstring>

#include <coded_update.hpp>  // generated for firmware that codes the values of its updates

#include "delta_codec.hpp"
#include "frame.hpp"
#include "highest.hpp"
#include "protocol.hpp"
#include "topk.hpp"

// These loops are long, and a vector unit makes them several times as fast. -O2 alone vectorises few loops; the kernels, whose
// loops are short, are faster so.
#pragma GCC push_options
#pragma GCC optimize("vect-cost-model=dynamic")

namespace tmf::sim {

// The place behind the last zero of some bytes, or the first of them.
inline const uint8_t* after_last_zero(const uint8_t* begin, const uint8_t* end) {
  constexpr uint64_t kOnes = 0x0101010101010101, kHighest = kOnes << 7;
  for (; end - begin >= 8; end -= 8) {
    uint64_t eight;
    std::memcpy(&eight, end - 8, sizeof eight);
    if (((eight - kOnes) & ~eight & kHighest) != 0) break;  // one of the bytes is 0
  }
  while (end != begin && end[-1] != 0) --end;
  return end;
}

// Number of bytes on the wire of a message, given from type to payload, with COBS, CRC and delimiter. The CRC is not computed
// but assumed to have no zero byte.
inline uint32_t wire_bytes(const uint8_t* body, size_t size) {
  constexpr size_t kLongestRun = 254;  // bytes without a zero that one code covers
  uint32_t codes = 1;
  const uint8_t *at = body, *const end = body + size;
  while (at + kLongestRun <= end) {
    // After the last zero before this place no run has begun that ends before it.
    const uint8_t* const zero = after_last_zero(at, at + kLongestRun);
    codes += zero == at;
    at = zero == at ? at + kLongestRun : zero;
  }
  const size_t run = static_cast<size_t>(end - after_last_zero(at, end));
  codes += run + protocol::kFrameCrcBytes > kLongestRun;
  return static_cast<uint32_t>(size + protocol::kFrameCrcBytes) + codes + 1;
}

// The working memory and the steps of one update of `kCount` weights, whose frames have at most kWindow bytes and end with a code
// of kMacBytes, if messages are authenticated.
template <uint32_t kCount, size_t kWindow, size_t kMacBytes>
class Update {
 public:
  // The change of every weight, kCount of them, to be written before `select`.
  float* change;

  // Selects the entries that are sent, and their coding. Fails as DeltaEncoder::freeze.
  template <uint32_t kLayers>
  Status select(const uint32_t (&layer_ends)[kLayers], const protocol::Recipe& recipe, const Key& key) {
    static_assert(kCount <= protocol::kMaxParameters);
    const uint32_t parts = recipe.selection == protocol::Selection::kLayer ? kLayers : 1;
    count_ = recipe.top_k;
    if (count_ < parts || count_ > kCount) return Status::kBadValue;
    const SelectionRule rule{recipe.selection, key};
    const auto change_at = [this](uint32_t i) { return change[i]; };
    if (recipe.selection == protocol::Selection::kRandom) {
      for (uint32_t i = 0; i < kCount; ++i) priorities_[i] = static_cast<int32_t>(rule.priority(change_at, i));
    } else {
      for (uint32_t i = 0; i < kCount; ++i) priorities_[i] = static_cast<int32_t>(magnitude_bits(change[i]));
    }
    if (parts == 1) {
      mark_highest(priorities_, 0, kCount, count_, selected_, near_);
    } else {
      Apportionment apportionment(count_, kCount, parts);
      for (uint32_t part = 0, begin = 0; part < parts; begin = layer_ends[part++])
        mark_highest(priorities_, begin, layer_ends[part], apportionment.next(layer_ends[part] - begin), selected_, near_);
    }
    list_marked(selected_, kCount, chosen_);
    choose_coding();
    return Status::kOk;
  }

  // Calls each(i) for every selected entry in ascending order.
  template <typename Each>
  void selected(Each each) const {
    for (uint32_t rank = 0; rank < count_; ++rank) each(chosen_[rank]);
  }

  // Takes the values that are sent, `sent_at(i)` of entry i, and chooses their format. Fails as DeltaEncoder::freeze.
  template <typename SentAt>
  Status take(SentAt sent_at, const protocol::Recipe& recipe) {
    constexpr float kStep = delta::kStepOf<SentAt>;
    for (uint32_t rank = 0; rank < count_; ++rank) values_[rank] = sent_at(chosen_[rank]);
    uint32_t largest = 0;
    for (uint32_t rank = 0; kStep == 0.0f && rank < count_; ++rank) {
      const uint32_t magnitude = magnitude_bits(values_[rank]);
      largest = magnitude > largest ? magnitude : largest;
    }
    const Status status = format_.set(recipe.uplink, largest);
    if (kStep != 0.0f && recipe.uplink == protocol::Dtype::kI8) format_.scale = kStep;
    return status;
  }

  // Writes the entries as the host decodes them. Fails as DeltaEncoder::encode.
  Status decode(int64_t* indices, float* values) {
    for (uint32_t rank = 0; rank < count_; ++rank) indices[rank] = chosen_[rank];
    if (format_.dtype == protocol::Dtype::kI8) {
      const float scale = format_.scale, divisor = scale > 0 ? scale : bits_of<float>(kInfiniteMagnitude);
      for (uint32_t rank = 0; rank < count_; ++rank) {
        const float level = format_.with_level(values_[rank] / divisor);
        const int8_t sent = static_cast<int8_t>(bits_of<uint32_t>(level));
        sent_[rank] = static_cast<uint8_t>(sent);
        values[rank] = static_cast<float>(sent) * scale;
      }
      return Status::kOk;
    }
    const size_t width = protocol::width(format_.dtype);
    for (uint32_t rank = 0; rank < count_; ++rank) {
      uint32_t bits = 0;
      const Status status = format_.convert(values_[rank], bits);
      if (status != Status::kOk) return status;
      std::memcpy(sent_ + rank * width, &bits, width);  // little-endian, as every machine of the simulation
      values[rank] = format_.decode(bits);
    }
    return Status::kOk;
  }

  // Counts the messages of the update and their bytes on the wire. Fails as DeltaEncoder::encode, or as CodedUpdate::encode where
  // values are coded.
  Status measure(uint32_t& messages, uint32_t& bytes) {
    if constexpr (CodedUpdate::kIsLevels) return measure_levels<CodedUpdate>(messages, bytes);
    else if constexpr (CodedUpdate::kIsCoded) return measure_coded<CodedUpdate>(messages, bytes);
    return measure_packed(messages, bytes);
  }

  // Writes what the host does not receive of every change; `values` are those that `decode` wrote.
  void unsent(const float* values, float* rest) const {
    std::memcpy(rest, change, sizeof(float) * kCount);
    for (uint32_t rank = 0; rank < count_; ++rank) rest[chosen_[rank]] = values_[rank] - values[rank];
  }

 private:
  static constexpr uint32_t kWords = (kCount + 63) / 64;
  static constexpr uint32_t kMostEntries = 0xFFFF;  // of a message

  Status measure_packed(uint32_t& messages, uint32_t& bytes) {
    constexpr size_t kHead = protocol::kFrameHeaderBytes + protocol::Delta::kFixedSize;
    const size_t capacity = payload_capacity(kWindow) - kMacBytes - protocol::Delta::kFixedSize;
    const size_t width = protocol::width(format_.dtype);
    frame_[0] = frame_[1] = 1;  // any type and sequence but 0: only the size counts
    uint32_t rest = bits_;      // of all entries from `rank` on
    for (uint32_t rank = 0, count; rank < count_; rank += count) {
      uint32_t used = 0;
      count = chunk(rank, rest, capacity, width, used);
      if (count == 0) return Status::kTooLarge;
      protocol::Delta header;
      header.rank = rank;
      header.count = static_cast<uint16_t>(count);
      header.base = chosen_[rank];
      header.coding = coding_;
      header.dtype = format_.dtype;
      header.scale = format_.scale;
      Writer head(frame_ + protocol::kFrameHeaderBytes, protocol::Delta::kFixedSize);
      header.write_head(head);
      write_gaps(rank, count, used, frame_ + kHead);
      const size_t size = kHead + (used + 7) / 8 + count * width;
      std::memcpy(frame_ + size - count * width, sent_ + rank * width, count * width);
      std::memset(frame_ + size, 1, kMacBytes);  // any value but 0
      ++messages;
      bytes += wire_bytes(frame_, size + kMacBytes);
      if (rank + count == count_) break;
      for (uint32_t i = 0; i < count; ++i) rest -= delta::index_bits(coding_, gaps_[rank + i]);
    }
    return Status::kOk;
  }

  // The same messages as those of LevelUpdate::encode.
  template <typename Levels>
  Status measure_levels(uint32_t& messages, uint32_t& bytes) {
    using Message = typename Levels::Message;
    constexpr size_t kHead = protocol::kFrameHeaderBytes + Message::kFixedSize;
    const size_t capacity = payload_capacity(kWindow) - kMacBytes - Message::kFixedSize;
    frame_[0] = frame_[1] = 1;  // any type and sequence but 0: only the size counts
    Message header;
    for (uint32_t rank = 0; rank < count_; rank += header.count) {
      const auto walk = [&](auto each) {
        for (uint32_t at = rank; at < count_ && each(chosen_[at], static_cast<int32_t>(static_cast<int8_t>(sent_[at]))); ++at) continue;
        return Status::kOk;
      };
      header.rank = rank;
      header.scale = format_.scale;
      size_t size = 0;
      const Status status = Levels::write(walk, coding_, header, frame_ + kHead, capacity, size);
      if (status != Status::kOk) return status;
      Writer head(frame_ + protocol::kFrameHeaderBytes, Message::kFixedSize);
      header.write_head(head);
      std::memset(frame_ + kHead + size, 1, kMacBytes);  // any value but 0
      ++messages;
      bytes += wire_bytes(frame_, kHead + size + kMacBytes);
    }
    return Status::kOk;
  }

  // The bits of a value in the update's code.
  struct Word {
    uint32_t bits, length;
  };

  // The same messages as those of Coded::encode.
  template <typename Coded>
  Status measure_coded(uint32_t& messages, uint32_t& bytes) {
    using Message = typename Coded::Message;
    constexpr size_t kHead = protocol::kFrameHeaderBytes + Message::kFixedSize + Coded::kFirstBytes;
    const size_t capacity = payload_capacity(kWindow) - kMacBytes - Message::kFixedSize - Coded::kFirstBytes;
    const uint32_t first = delta::index_bits(coding_, 0);
    auto code = Coded::Code::packed();
    const bool is_wide = format_.dtype != protocol::Dtype::kI8;
    Word words[256];  // of int8 values
    uint32_t values_left = static_cast<uint32_t>(8 * protocol::width(format_.dtype)) * count_, gaps_left = bits_;
    if (!is_wide) values_left = plan_values(code, words);
    const auto length = [&](uint32_t rank) {
      return is_wide ? static_cast<uint32_t>(8 * protocol::width(format_.dtype)) : words[sent_[rank]].length;
    };
    const auto fits = [&](uint32_t gap_bits, uint32_t value_bits) { return (gap_bits + 7) / 8 + (value_bits + 7) / 8 <= capacity; };
    frame_[0] = frame_[1] = 1;  // any type and sequence but 0: only the size counts
    for (uint32_t rank = 0, count; rank < count_; rank += count) {
      uint32_t gap_bits = gaps_left - delta::index_bits(coding_, gaps_[rank]) + first, value_bits = code.head_bits() + values_left;
      const uint32_t left = count_ - rank;
      count = left;
      if (left > kMostEntries || !fits(gap_bits, value_bits)) {
        gap_bits = 0;
        value_bits = code.head_bits();
        for (count = 0; count < left && count < kMostEntries; ++count) {
          const uint32_t more_gap_bits = gap_bits + (count == 0 ? first : delta::index_bits(coding_, gaps_[rank + count]));
          const uint32_t more_value_bits = value_bits + length(rank + count);
          if (!fits(more_gap_bits, more_value_bits)) break;
          gap_bits = more_gap_bits;
          value_bits = more_value_bits;
        }
      }
      if (count == 0) return Status::kTooLarge;
      Message header;
      header.rank = rank;
      header.count = static_cast<uint16_t>(count);
      header.indices = coding_;
      header.values = code.coding;
      header.dtype = format_.dtype;
      header.scale = format_.scale;
      Writer head(frame_ + protocol::kFrameHeaderBytes, Message::kFixedSize);
      header.write_head(head);
      for (size_t i = 0; i < Coded::kFirstBytes; ++i)
        frame_[kHead - Coded::kFirstBytes + i] = static_cast<uint8_t>(chosen_[rank] >> (8 * i));
      write_gaps(rank, count, gap_bits, frame_ + kHead);
      uint8_t* const values = frame_ + kHead + (gap_bits + 7) / 8;
      const size_t width = protocol::width(format_.dtype), size = static_cast<size_t>(values - frame_) + (value_bits + 7) / 8;
      if (is_wide) std::memcpy(values, sent_ + rank * width, count * width);
      else write_values({code.least, code.head_bits()}, words, sent_ + rank, count, values);
      std::memset(frame_ + size, 1, kMacBytes);  // any value but 0
      ++messages;
      bytes += wire_bytes(frame_, size + kMacBytes);
      if (rank + count == count_) break;
      for (uint32_t i = rank; i < rank + count; ++i) {
        gaps_left -= delta::index_bits(coding_, gaps_[i]);
        values_left -= length(i);
      }
    }
    return Status::kOk;
  }

  // Chooses the code of int8 values and writes the words of all that occur. Returns the bits of all values.
  template <typename Code>
  uint32_t plan_values(Code& code, Word (&words)[256]) const {
    uint32_t counts[256] = {}, histogram[Code::kLevels], bits = 0;
    for (uint32_t rank = 0; rank < count_; ++rank) ++counts[sent_[rank]];
    histogram[0] = counts[0];
    for (uint32_t m = 1; m < Code::kLevels; ++m) histogram[m] = counts[m] + counts[256 - m];
    code.plan(histogram);
    for (uint32_t sent = 0; sent < 256; ++sent) {
      if (counts[sent] == 0) continue;
      const int32_t value = static_cast<int8_t>(sent);
      words[sent] = {code.word(value), code.bits(value)};
      bits += counts[sent] * words[sent].length;
    }
    return bits;
  }

  // Writes the bits of `head`, and then those of int8 values.
  static void write_values(const Word& head, const Word (&words)[256], const uint8_t* sent, uint32_t count, uint8_t* to) {
    uint64_t held = head.length > 0 ? head.bits : 0;
    uint32_t filled = head.length;
    for (uint32_t i = 0; i < count; ++i) {
      held |= uint64_t{words[sent[i]].bits} << filled;
      filled += words[sent[i]].length;
      std::memcpy(to, &held, sizeof held);
      to += filled / 8;
      held >>= filled & ~7u;
      filled %= 8;
    }
    std::memcpy(to, &held, sizeof held);
  }

  // The coding that takes the fewest bits, as delta::Planner finds it.
  void choose_coding() {
    gaps_[0] = 0;
    for (uint32_t rank = 1; rank < count_; ++rank) gaps_[rank] = chosen_[rank] - chosen_[rank - 1] - 1;
    widest_ = 0;
    uint32_t sum = 0;
    for (uint32_t rank = 0; rank < count_; ++rank) {
      widest_ = gaps_[rank] > widest_ ? gaps_[rank] : widest_;
      sum += gaps_[rank];
    }
    coding_ = protocol::Coding::kRun;
    bits_ = 0;
    if (sum == 0) return;
    bits_ = UINT32_MAX;
    for (uint32_t parameter = 0; parameter <= static_cast<uint32_t>(protocol::Coding::kRice20); ++parameter) {
      uint32_t bits = 0;
      for (uint32_t rank = 0; rank < count_; ++rank) {
        const uint32_t ones = gaps_[rank] >> parameter;
        bits += ones < protocol::kRiceEscape ? ones + 1 + parameter : protocol::kRiceEscape + protocol::kRiceRawBits;
      }
      if (bits < bits_) bits_ = bits, coding_ = static_cast<protocol::Coding>(parameter);
      if (widest_ >> parameter == 0) break;  // every further parameter takes a bit more per entry
    }
    if (sum + count_ < bits_) bits_ = sum + count_, coding_ = protocol::Coding::kBitmap;
  }

  // Number of entries from `rank` on that one message holds; `used` are the bits of their gaps, `rest` those of all entries
  // from there on. The first entry's gap counts as 0.
  uint32_t chunk(uint32_t rank, uint32_t rest, size_t capacity, size_t width, uint32_t& used) const {
    const uint32_t first = delta::index_bits(coding_, 0), left = count_ - rank;
    used = rest - delta::index_bits(coding_, gaps_[rank]) + first;
    if (left <= kMostEntries && (used + 7) / 8 + left * width <= capacity) return left;
    uint32_t count = 0;
    used = 0;
    for (; count < left && count < kMostEntries; ++count) {
      const uint32_t bits = used + (count == 0 ? first : delta::index_bits(coding_, gaps_[rank + count]));
      if ((bits + 7) / 8 + (count + 1) * width > capacity) break;
      used = bits;
    }
    return count;
  }

  // Writes the gaps of a message, `used` bits in the entries' coding.
  void write_gaps(uint32_t rank, uint32_t count, uint32_t used, uint8_t* to) const {
    if (coding_ == protocol::Coding::kRun) return;
    const bool is_bitmap = coding_ == protocol::Coding::kBitmap;
    if (is_bitmap || (coding_ == protocol::Coding::kRice0 && widest_ < protocol::kRiceEscape)) {
      // A bitmap has a 1 for each entry and a 0 for each other weight; Rice codes with parameter 0 are its complement.
      const uint8_t* from = selected_ + chosen_[rank];
      for (uint32_t i = 0; i < used; i += 8, from += 8) {
        const uint32_t valid = used - i < 8 ? (1u << (used - i)) - 1 : 0xFF;
        to[i / 8] = static_cast<uint8_t>((flags(from) ^ (is_bitmap ? 0 : 0xFF)) & valid);
      }
      return;
    }
    const uint32_t parameter = static_cast<uint32_t>(coding_);
    uint64_t word = 0;
    uint32_t filled = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t gap = i == 0 ? 0 : gaps_[rank + i], ones = gap >> parameter;
      const bool escaped = ones >= protocol::kRiceEscape;
      const uint64_t raw = ((uint64_t{1} << protocol::kRiceEscape) - 1) | uint64_t{gap} << protocol::kRiceEscape;
      const uint64_t rice = ((uint64_t{1} << (ones & 31)) - 1) | uint64_t{gap & ((1u << parameter) - 1)} << ((ones & 31) + 1);
      word |= (escaped ? raw : rice) << filled;
      filled += escaped ? protocol::kRiceEscape + protocol::kRiceRawBits : ones + 1 + parameter;
      std::memcpy(to, &word, sizeof word);
      to += filled / 8;
      word >>= filled & ~7u;
      filled %= 8;
    }
    std::memcpy(to, &word, sizeof word);
  }

  int32_t priorities_[kCount];      // 31 bits; signed numbers compare faster
  uint8_t selected_[64 * kWords + 64] = {};  // whether each entry is sent, as 1 or 0
  uint32_t chosen_[kCount + 8];  // indices of the entries, written eight at a time
  uint32_t gaps_[kCount];
  float values_[kCount];
  uint8_t sent_[sizeof(float) * kCount];  // the values' bytes
  uint8_t frame_[kWindow + sizeof(uint64_t)];
  uint32_t count_ = 0, widest_ = 0, bits_ = 0;
  int32_t near_ = 1;  // where the last threshold was
  delta::Format format_;
  protocol::Coding coding_ = protocol::Coding::kRice0;
};

}  // namespace tmf::sim

#pragma GCC pop_options
