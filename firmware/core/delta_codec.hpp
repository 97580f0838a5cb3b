// Encodes the selected entries of a delta for the uplink, chunk by chunk, directly from the weights.
//
// A chunk has its indices first: a bit string, LSB first, padded with zeros to a byte. Each index is written as a gap, its
// distance from the lowest index that is possible: the previous index + 1, or Delta.base for the chunk's first entry. The
// encoder sets Delta.base to the first entry's index.
//   Rice parameter r: gap >> r ones, a zero, the r low bits of the gap. When this takes kRiceEscape ones or more:
//                     kRiceEscape ones, then the gap in kRiceRawBits bits.
//   Bitmap: one bit for each index from Delta.base to the chunk's last entry, that is, gap zeros and a one.
//   Run: no bits; every gap is 0, as in a delta of all weights.
// The values follow: f32, f16, or i8 = round-half-even(delta / scale).
#pragma once

#include <cstddef>
#include <cstdint>

#include "half.hpp"
#include "math.hpp"
#include "protocol.hpp"
#include "topk.hpp"

namespace tmf {

namespace delta {

static_assert(protocol::kMaxParameters <= 1u << protocol::kRiceRawBits, "an escaped gap holds every index");

// Number of bits that one gap takes.
uint32_t index_bits(protocol::Coding coding, uint32_t gap);

// Writes one gap: calls to.put(bits, count) with at most 24 bits at a time.
template <typename To>
void write_gap(protocol::Coding coding, uint32_t gap, To& to) {
  constexpr uint32_t kMost = protocol::kRiceEscape;
  if (coding == protocol::Coding::kRun) return;
  if (coding == protocol::Coding::kBitmap) {
    for (; gap >= kMost; gap -= kMost) to.put(0, kMost);
    to.put(1u << gap, gap + 1);
    return;
  }
  const uint32_t parameter = static_cast<uint32_t>(coding), quotient = gap >> parameter;
  if (quotient < protocol::kRiceEscape) {
    to.put((1u << quotient) - 1, quotient + 1);
    to.put(gap & ((1u << parameter) - 1), parameter);
  } else {
    to.put((1u << protocol::kRiceEscape) - 1, protocol::kRiceEscape);
    to.put(gap, protocol::kRiceRawBits);
  }
}

// Finds the coding that takes the fewest bits for a whole delta. Among equals, the lowest Rice parameter comes first and the
// bitmap last.
class Planner {
 public:
  // `histogram` is working memory until `best` has returned.
  template <uint32_t kBins>
  explicit Planner(uint32_t (&histogram)[kBins]) : histogram_(histogram), bins_(kBins) {
    for (uint32_t& bin : histogram) bin = 0;
  }
  void add(uint32_t gap);
  protocol::Coding best();

 private:
  static constexpr uint32_t kParameters = static_cast<uint32_t>(protocol::Coding::kRice20) + 1;

  void count(uint32_t gap, uint32_t times);

  uint32_t* const histogram_;
  const uint32_t bins_;
  uint32_t rice_bits_[kParameters] = {};
  uint32_t entries_ = 0;
  uint32_t gaps_ = 0;  // their sum
};

// The number format of a delta's values.
struct Format {
  protocol::Dtype dtype = protocol::Dtype::kF32;
  float scale = 0;  // of i8; 0 when all values round to zero

  // Chooses dtype and scale; `magnitude` is the magnitude_bits of the delta's largest value. Fails with kNotFinite, with
  // kOverflow beyond float16, or with kBadValue for a dtype that a delta cannot have.
  Status set(protocol::Dtype uplink, uint32_t magnitude);
  // A number whose lowest byte is the level of i8 for a value that was divided by the scale.
  static float with_level(float quotient) { return quotient + kRounder; }
  // Writes the bits that are sent for `value`.
  Status convert(float value, uint32_t& bits) const;
  // The number that the receiver decodes from a value's bits.
  float decode(uint32_t bits) const {
    if (dtype == protocol::Dtype::kF16) return from_f16(static_cast<uint16_t>(bits));
    if (dtype == protocol::Dtype::kI8) return static_cast<float>(static_cast<int8_t>(bits)) * scale;
    return bits_of<float>(bits);
  }
};

// One chunk that is being filled: index bits from its start upwards, values from its end downwards.
class Chunk {
 public:
  Chunk(uint8_t* data, size_t capacity) : data_(data), capacity_(capacity), values_at_(capacity) {}
  bool fits(uint32_t bits, size_t value_bytes) const;
  void add(protocol::Coding coding, uint32_t gap, uint32_t value, size_t value_bytes);
  // Moves the values next to the index bits; returns the chunk's size.
  size_t close();

 private:
  void put(uint32_t bits, uint32_t count);

  uint8_t* data_;
  size_t capacity_;
  size_t values_at_;
  size_t bits_ = 0;
};

template <typename>
using Void = void;

// The step of a delta whose entries are multiples of one, `DeltaAt::kStep`; 0 of any other delta.
template <typename DeltaAt, typename = void>
constexpr float kStepOf = 0.0f;
template <typename DeltaAt>
constexpr float kStepOf<DeltaAt, Void<decltype(DeltaAt::kStep)>> = DeltaAt::kStep;

}  // namespace delta

// Selects and encodes the entries of one delta. `delta_at(i)` is entry i of the delta; it must return the same values from
// `freeze` until the last `encode`.
template <uint32_t kLayers>
class DeltaEncoder {
 public:
  // Selects the recipe's top_k entries, among all weights or in each layer, and chooses coding and value format. This takes
  // one scan more than `select_top`. `histogram` is working memory for this call. A delta of multiples of a step has this step
  // as its scale; it is read only where its selection depends on it.
  //
  // Fails with kBadValue for a top_k above the number of weights or below the number of layers that each send an entry, and
  // for a dtype that a delta cannot have; with kTooLarge beyond kMaxParameters weights; with kNotFinite; with kOverflow
  // beyond float16.
  template <typename DeltaAt, uint32_t kBins>
  Status freeze(DeltaAt delta_at, const uint32_t (&layer_ends)[kLayers], const protocol::Recipe& recipe, const Key& key,
                uint32_t (&histogram)[kBins]) {
    const uint32_t k = recipe.top_k;
    count_ = 0;
    n_ = layer_ends[kLayers - 1];
    rule_ = {recipe.selection, key};
    const uint32_t parts = recipe.selection == protocol::Selection::kLayer ? kLayers : 1;
    if (n_ > protocol::kMaxParameters) return Status::kTooLarge;
    if (k < parts || k > n_) return Status::kBadValue;
    const auto priority_at = [&](uint32_t i) { return rule_.priority(delta_at, i); };
    Apportionment apportionment(k, n_, parts);
    for (uint32_t part = 0, begin = 0; part < parts; begin = parts_[part++].end) {
      const uint32_t end = parts == 1 ? n_ : layer_ends[part];
      parts_[part] = select_top(priority_at, begin, end, apportionment.next(end - begin), histogram);
    }

    delta::Planner planner(histogram);
    Cursor cursor = start();
    uint32_t largest = 0;
    for (uint32_t lowest = 0; cursor.rank < k; lowest = cursor.index) {
      const bool is_first = cursor.rank == 0;
      const uint32_t index = next_selected(priority_at, parts_, n_, cursor);
      if constexpr (delta::kStepOf<DeltaAt> == 0.0f) {
        const uint32_t magnitude = magnitude_bits(delta_at(index));
        if (magnitude > largest) largest = magnitude;
      }
      planner.add(is_first ? 0 : index - lowest);
    }
    const Status status = format_.set(recipe.uplink, largest);
    if (status != Status::kOk) return status;
    if constexpr (delta::kStepOf<DeltaAt> != 0.0f) {
      if (recipe.uplink == protocol::Dtype::kI8) format_.scale = delta::kStepOf<DeltaAt>;
    }
    coding_ = planner.best();
    count_ = k;
    cursor_ = start();
    return Status::kOk;
  }

  // Number of entries that `encode` can write; 0 until `freeze` has succeeded.
  uint32_t count() const { return count_; }

  // Writes to `data` as many entries as fit, from `rank` on, and fills `header` except for its token and data. Calls with
  // increasing ranks scan each weight once; a rank lower than the last one starts the scan again.
  //
  // Fails with kBadOffset if there is no such rank, with kTooLarge if not even one entry fits, and with kBadState if
  // `delta_at` has changed since `freeze`.
  template <typename DeltaAt>
  Status encode(DeltaAt delta_at, uint32_t rank, protocol::Delta& header, uint8_t* data, size_t capacity, size_t& size) {
    constexpr uint32_t kMostEntries = 0xFFFF;
    if (rank >= count_) return Status::kBadOffset;
    if (rank < cursor_.rank) cursor_ = start();
    const auto priority_at = [&](uint32_t i) { return rule_.priority(delta_at, i); };

    delta::Chunk chunk(data, capacity);
    const size_t value_bytes = protocol::width(format_.dtype);
    uint32_t lowest = 0;
    uint32_t count = 0;
    while (count < kMostEntries && cursor_.rank < count_) {
      Cursor after = cursor_;
      const uint32_t index = next_selected(priority_at, parts_, n_, after);
      if (index == n_) return Status::kBadState;
      if (after.rank > rank) {
        if (count == 0) header.base = lowest = index;
        const uint32_t gap = index - lowest;
        if (!chunk.fits(delta::index_bits(coding_, gap), value_bytes)) break;
        uint32_t bits;
        const Status status = format_.convert(delta_at(index), bits);
        if (status != Status::kOk) return status;
        chunk.add(coding_, gap, bits, value_bytes);
        lowest = index + 1;
        ++count;
      }
      cursor_ = after;
    }
    if (count == 0) return Status::kTooLarge;
    header.rank = rank;
    header.count = static_cast<uint16_t>(count);
    header.coding = coding_;
    header.dtype = format_.dtype;
    header.scale = format_.scale;
    size = chunk.close();
    return Status::kOk;
  }

  // Calls each(i) for every selected entry in ascending order, where the selection does not depend on the delta.
  template <typename Each>
  void selected(Each each) const {
    const auto priority_at = [&](uint32_t i) { return rule_.priority([](uint32_t) { return 0.0f; }, i); };
    Cursor cursor = start();
    for (uint32_t i; (i = next_selected(priority_at, parts_, n_, cursor)) != n_;) each(i);
  }

  // Calls each(value) for `count` entries from `rank` on, in the order of their indices. False if `delta_at` has changed since
  // `freeze`, so that there are not as many.
  template <typename DeltaAt, typename Each>
  bool visit(DeltaAt delta_at, uint32_t rank, uint32_t count, Each each) {
    if (rank < cursor_.rank) cursor_ = start();
    const auto priority_at = [&](uint32_t i) { return rule_.priority(delta_at, i); };
    while (cursor_.rank < rank + count) {
      const uint32_t index = next_selected(priority_at, parts_, n_, cursor_);
      if (index == n_) return false;
      if (cursor_.rank > rank) each(delta_at(index));
    }
    return true;
  }

  // Calls each(index, value) for the entries from `rank` on, in the order of their indices, until it returns false; that entry is
  // not passed. Fails with kBadState if `delta_at` has changed since `freeze`, so that there are not as many.
  template <typename DeltaAt, typename Each>
  Status walk(DeltaAt delta_at, uint32_t rank, Each each) {
    if (rank < cursor_.rank) cursor_ = start();
    float value = 0;  // the last one that the selection has asked for: each entry is computed once
    const auto seen_at = [&](uint32_t i) { return value = delta_at(i); };
    const auto priority_at = [&](uint32_t i) { return rule_.priority(seen_at, i); };
    while (cursor_.rank < count_) {
      Cursor after = cursor_;
      const uint32_t index = next_selected(priority_at, parts_, n_, after);
      if (index == n_) return Status::kBadState;
      if (rule_.selection == protocol::Selection::kRandom) value = delta_at(index);
      if (after.rank > rank && !each(index, value)) break;
      cursor_ = after;
    }
    return Status::kOk;
  }

  // The coding of the indices and the format of the values, chosen by `freeze`.
  protocol::Coding coding() const { return coding_; }
  const delta::Format& format() const { return format_; }

  // Calls rest(i, value - value that the receiver has) for every i in ascending order. The receiver has 0 for an entry that
  // was not selected. `rest` may change what `delta_at` returns for entries up to i.
  template <typename DeltaAt, typename Rest>
  void unsent(DeltaAt delta_at, Rest rest) const {
    const auto priority_at = [&](uint32_t i) { return rule_.priority(delta_at, i); };
    Cursor cursor = start();
    for (uint32_t i = 0; i < n_; ++i) {
      const uint32_t index = next_selected(priority_at, parts_, n_, cursor);
      for (; i < index; ++i) rest(i, delta_at(i));
      if (index == n_) return;
      const float value = delta_at(index);
      uint32_t bits = 0;
      if (format_.convert(value, bits) == Status::kOk) rest(index, value - format_.decode(bits));
    }
  }

 private:
  Cursor start() const { return {0, 0, 0, parts_[0].ties}; }

  uint32_t n_ = 0;
  uint32_t count_ = 0;
  SelectionRule rule_;
  Part parts_[kLayers] = {};
  delta::Format format_;
  Cursor cursor_;
  protocol::Coding coding_ = protocol::Coding::kRice0;
};

}  // namespace tmf
