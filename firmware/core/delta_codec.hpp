// The delta on its way up: the selected entries, encoded chunk by chunk by rank straight from the frozen weights.
//
// A chunk's index set is a bit string, LSB first, padded with zeros to a byte. A gap is an index minus the lowest one
// possible (the previous index + 1; Delta.base for a chunk's first entry, which the encoder sets to that entry's index).
//   Rice parameter r: gap >> r ones, a zero, the r low bits; from kRiceEscape ones on instead kRiceEscape ones and the gap in kRiceRawBits bits.
//   Bitmap: one bit per index from base up to the chunk's last entry, that is, gap zeros and a one.
// Its values follow: f32, f16, or i8 = round-half-even(delta / scale).
#pragma once

#include <cstddef>
#include <cstdint>

#include "protocol.hpp"
#include "topk.hpp"

namespace tmf {

namespace delta {

static_assert(protocol::kMaxParameters <= 1u << protocol::kRiceRawBits, "an escaped gap holds every index");

// Bits that one gap takes.
uint32_t index_bits(uint8_t coding, uint32_t gap);

// Finds the coding that takes the fewest bits for a whole delta; of equals the lowest Rice parameter, the bitmap last.
class Planner {
 public:
  // `histogram` is scratch until `best` is called.
  explicit Planner(uint32_t (&histogram)[256]);
  void add(uint32_t gap);
  uint8_t best();

 private:
  static constexpr uint32_t kParameters = static_cast<uint32_t>(protocol::Coding::kMaxRice) + 1;

  void count(uint32_t gap, uint32_t times);

  uint32_t (&histogram_)[256];
  uint32_t rice_bits_[kParameters] = {};
  uint32_t bitmap_bits_ = 0;
};

// How values travel.
struct Format {
  protocol::Dtype dtype = protocol::Dtype::kF32;
  float scale = 0;  // of i8; 0 when all values round to zero

  // For values up to `largest` in magnitude. kNotFinite, kOverflow, or kBadValue for a dtype that no delta has.
  Status set(uint8_t code, float largest);
  size_t bytes() const;
  Status convert(float value, uint32_t& bits) const;
  // The number that whoever receives a value's bits takes it for.
  float received(uint32_t bits) const;
};

// One chunk being filled: index bits grow up from its start, values down from its end.
class Chunk {
 public:
  Chunk(uint8_t* data, size_t capacity) : data_(data), capacity_(capacity), values_at_(capacity) {}
  bool fits(uint32_t bits, size_t value_bytes) const;
  void add(uint8_t coding, uint32_t gap, uint32_t value, size_t value_bytes);
  // Moves the values next to the index bits; returns the chunk's size.
  size_t close();

 private:
  void put(uint32_t bits, uint32_t count);

  uint8_t* data_;
  size_t capacity_;
  size_t values_at_;
  size_t bits_ = 0;
};

}  // namespace delta

// `delta_at(i)` is entry i of the delta, i < n; it must give the same values from `freeze` until the last `encode`.
class DeltaEncoder {
 public:
  // Selects the k largest entries and how they travel: five scans. `histogram` is scratch for this call only.
  // kBadValue: k > n or no dtype of a delta; kTooLarge: n > kMaxParameters; kNotFinite; kOverflow: beyond float16.
  template <typename DeltaAt>
  Status freeze(DeltaAt delta_at, uint32_t n, uint32_t k, uint8_t dtype, uint32_t (&histogram)[256]) {
    selection_ = Selection{};
    cursor_ = Cursor{};
    if (n > protocol::kMaxParameters) return Status::kTooLarge;
    if (k > n) return Status::kBadValue;
    const Selection selection = select_top(delta_at, n, k, histogram);
    const Status status = format_.set(dtype, selection.largest);
    if (status != Status::kOk) return status;

    delta::Planner planner(histogram);
    Cursor cursor{0, 0, selection.ties};
    float value;
    uint32_t index = next_selected(delta_at, n, selection.threshold, cursor, value);
    planner.add(0);
    while (cursor.rank < selection.count) {
      const uint32_t lowest = index + 1;
      index = next_selected(delta_at, n, selection.threshold, cursor, value);
      planner.add(index - lowest);
    }
    coding_ = planner.best();
    n_ = n;
    selection_ = selection;
    rewind();
    return Status::kOk;
  }

  // Entries that `encode` can give; 0 before `freeze` has succeeded.
  uint32_t count() const { return selection_.count; }

  // Fills `data` with as many entries from `rank` on as fit, and all of `header` but its round and data.
  // In sequence every entry is scanned once; a lower rank than the last starts over. kBadOffset: no such rank;
  // kTooLarge: not even one entry fits; kBadState: `delta_at` has changed since `freeze`.
  template <typename DeltaAt>
  Status encode(DeltaAt delta_at, uint32_t rank, protocol::Delta& header, uint8_t* data, size_t capacity, size_t& size) {
    constexpr uint32_t kMostEntries = 0xFFFF;
    if (rank >= selection_.count) return Status::kBadOffset;
    if (rank < cursor_.rank) rewind();

    delta::Chunk chunk(data, capacity);
    const size_t value_bytes = format_.bytes();
    uint32_t lowest = 0;
    uint32_t count = 0;
    while (count < kMostEntries && cursor_.rank < selection_.count) {
      Cursor after = cursor_;
      float value;
      const uint32_t index = next_selected(delta_at, n_, selection_.threshold, after, value);
      if (index == n_) return Status::kBadState;
      if (after.rank > rank) {
        if (count == 0) header.base = lowest = index;
        const uint32_t gap = index - lowest;
        if (!chunk.fits(delta::index_bits(coding_, gap), value_bytes)) break;
        uint32_t bits;
        const Status status = format_.convert(value, bits);
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
    header.dtype = static_cast<uint8_t>(format_.dtype);
    header.scale = format_.scale;
    size = chunk.close();
    return Status::kOk;
  }

  // Calls rest(i, value - as it was sent) for every i in order, with 0 sent of what was not selected. `rest` may change what
  // delta_at gives up to i.
  template <typename DeltaAt, typename Rest>
  void unsent(DeltaAt delta_at, Rest rest) const {
    Cursor cursor{0, 0, selection_.ties};
    for (uint32_t i = 0; i < n_; ++i) {
      float value = 0;
      const uint32_t index = next_selected(delta_at, n_, selection_.threshold, cursor, value);
      for (; i < index; ++i) rest(i, delta_at(i));
      uint32_t bits;
      if (index < n_ && format_.convert(value, bits) == Status::kOk) rest(index, value - format_.received(bits));
    }
  }

 private:
  void rewind() { cursor_ = Cursor{0, 0, selection_.ties}; }

  uint32_t n_ = 0;
  Selection selection_;
  delta::Format format_;
  Cursor cursor_;
  uint8_t coding_ = 0;
};

}  // namespace tmf
