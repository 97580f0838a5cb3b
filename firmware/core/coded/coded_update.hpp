// Updates whose values are coded: PullCoded has the entries of the frozen delta as Pull has them, with int8 values in fewer bits.
//
// A message has the index of its first entry in kFirstIndexBytes bytes, and then two strings of bits, each padded with zeros to whole
// bytes. The first has the gaps in the delta's coding (delta_codec.hpp), of which that of the first entry is 0. The second has the
// least magnitude, unless values are packed, and then the values (value_code.hpp). Values in F32 or F16 are packed.
//
// The generated coded_update.hpp includes this file after coded_facts.hpp, which has the messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "coded/pulled_update.hpp"
#include "coded/value_code.hpp"
#include "delta_codec.hpp"
#include "protocol.hpp"

namespace tmf {

class CodedUpdate {
 public:
  static constexpr bool kIsCoded = true;
  static constexpr bool kIsLevels = false;
  static constexpr int32_t kLargest = 127;
  using Code = ValueCode<8>;  // of int8 values
  using Message = protocol::CodedDelta;
  static constexpr size_t kFirstBytes = protocol::kFirstIndexBytes;
  static_assert(protocol::kMaxParameters <= 1u << (8 * kFirstBytes), "they hold every index");

  static bool allows(const protocol::Recipe&) { return true; }

  // Chooses the coding of the values of a frozen delta. `histogram` is working memory for this call.
  template <typename Encoder, typename DeltaAt, uint32_t kBins>
  Status plan(Encoder& delta, DeltaAt delta_at, uint32_t (&histogram)[kBins]) {
    const delta::Format& format = delta.format();
    code_ = Code::packed();
    if (format.dtype != protocol::Dtype::kI8) return Status::kOk;
    for (uint32_t& bin : histogram) bin = 0;
    const Status status = delta.walk(delta_at, 0, [&](uint32_t, float value) {
      ++histogram[Code::magnitude(level(format, value))];
      return true;
    });
    code_.plan(histogram);
    return status;
  }

  // Answers PullCoded, as answer_pull says.
  template <typename Encoder, typename DeltaAt>
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail, bool is_frozen, uint32_t token,
                Encoder& delta, DeltaAt delta_at, bool& is_pulled) {
    return answer_pull<protocol::PullCoded>(*this, type, payload, size, out, detail, is_frozen, token, delta, delta_at, is_pulled);
  }

  // Writes to `data` as many entries as fit, from `rank` on, and fills `header` except for its data.
  //
  // Fails with kTooLarge if not even one entry fits, and with kBadState if `delta_at` has changed since the delta was frozen.
  template <typename Encoder, typename DeltaAt>
  Status encode(Encoder& delta, DeltaAt delta_at, uint32_t rank, Message& header, uint8_t* data, size_t capacity,
                size_t& size) const {
    constexpr uint32_t kMostEntries = 0xFFFF;
    const protocol::Coding coding = delta.coding();
    const delta::Format& format = delta.format();
    const bool is_wide = format.dtype != protocol::Dtype::kI8;
    const size_t width = protocol::width(format.dtype);
    if (capacity < kFirstBytes) return Status::kTooLarge;
    BitString<1> gaps(data + kFirstBytes);
    BitString<-1> values(data + capacity - 1);  // reversed at the end
    size_t gap_bits = 0, value_bits = code_.head_bits();
    uint32_t lowest = 0, count = 0;
    Status fault = Status::kOk;
    const Status status = delta.walk(delta_at, rank, [&](uint32_t index, float value) {
      if (count == kMostEntries) return false;
      const uint32_t gap = count == 0 ? 0 : index - lowest;
      const int32_t number = is_wide ? 0 : level(format, value);
      const size_t more_gap_bits = gap_bits + delta::index_bits(coding, gap);
      const uint32_t length = is_wide ? static_cast<uint32_t>(8 * width) : code_.bits(number);
      const size_t more_value_bits = value_bits + length;
      if (kFirstBytes + (more_gap_bits + 7) / 8 + (more_value_bits + 7) / 8 > capacity) return false;
      gap_bits = more_gap_bits;
      value_bits = more_value_bits;
      if (count++ == 0) {
        for (size_t i = 0; i < kFirstBytes; ++i) data[i] = static_cast<uint8_t>(index >> (8 * i));
        code_.write_head(values);
      }
      delta::write_gap(coding, gap, gaps);
      if (is_wide) {
        uint32_t bits = 0;
        fault = format.convert(value, bits);
        for (size_t i = 0; i < width; ++i, bits >>= 8) values.put(bits & 0xFF, 8);
      } else {
        code_.write(number, length, values);
      }
      lowest = index + 1;
      return fault == Status::kOk;
    });
    if (status != Status::kOk) return status;
    if (fault != Status::kOk) return fault;
    if (count == 0) return Status::kTooLarge;
    uint8_t* const first = gaps.close();
    const uint8_t* const behind = values.close();
    // The values' bytes lie in reverse order at the end of `data`.
    const size_t value_bytes = static_cast<size_t>(data + capacity - 1 - behind);
    for (size_t low = capacity - value_bytes, high = capacity; low + 1 < high; ++low) {
      const uint8_t swapped = data[low];
      data[low] = data[--high];
      data[high] = swapped;
    }
    std::memmove(first, data + capacity - value_bytes, value_bytes);
    size = static_cast<size_t>(first - data) + value_bytes;
    header.rank = rank;
    header.count = static_cast<uint16_t>(count);
    header.indices = coding;
    header.values = code_.coding;
    header.dtype = format.dtype;
    header.scale = format.scale;
    return Status::kOk;
  }

 private:
  static int32_t level(const delta::Format& format, float value) {
    uint32_t bits = 0;
    (void)format.convert(value, bits);  // of int8 it does not fail
    return static_cast<int8_t>(bits);
  }

  Code code_;
};

}  // namespace tmf
