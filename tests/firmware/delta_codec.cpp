// Tests the delta encoder: a decoder in this file, written from the format's description, reads the chunks back.
#include "delta_codec.hpp"

#include "check.hpp"
#include "half.hpp"
#include "math.hpp"

namespace tmf {
namespace {

constexpr uint32_t kMost = 400;
float values[kMost];
float decoded[kMost];
uint8_t data[700];
uint32_t histogram[128];

float delta_at(uint32_t i) { return values[i]; }

// Sets `n` values; each is non-zero with a probability of `share` / 256.
void make(uint32_t n, uint32_t share) {
  uint32_t noise = n;
  for (uint32_t i = 0; i < n; ++i) {
    noise = noise * 1664525 + 1013904223;
    const bool kept = (noise >> 24) < share;
    values[i] = kept ? static_cast<float>(static_cast<int32_t>(noise << 8) >> 12) * 0x1p-16f : 0.0f;
  }
}

struct BitReader {
  const uint8_t* bytes;
  uint32_t at;

  uint32_t next() {
    const uint32_t bit = bytes[at / 8] >> at % 8 & 1u;
    ++at;
    return bit;
  }
  uint32_t take(uint32_t count) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; ++i) value |= next() << i;
    return value;
  }
};

uint32_t read_gap(BitReader& bits, protocol::Coding coding) {
  uint32_t gap = 0;
  if (coding == protocol::Coding::kRun) return gap;
  if (coding == protocol::Coding::kBitmap) {
    while (bits.next() == 0) ++gap;
    return gap;
  }
  uint32_t ones = 0;
  while (ones < protocol::kRiceEscape && bits.next() == 1) ++ones;
  if (ones == protocol::kRiceEscape) return bits.take(protocol::kRiceRawBits);
  const uint32_t parameter = static_cast<uint32_t>(coding);
  return ones << parameter | bits.take(parameter);
}

float read_value(const uint8_t* from, const protocol::Delta& header) {
  if (header.dtype == protocol::Dtype::kI8) return static_cast<float>(static_cast<int8_t>(from[0])) * header.scale;
  uint32_t bits = static_cast<uint32_t>(from[0] | from[1] << 8);
  if (header.dtype == protocol::Dtype::kF16) return from_f16(static_cast<uint16_t>(bits));
  bits |= static_cast<uint32_t>(from[2]) << 16 | static_cast<uint32_t>(from[3]) << 24;
  return bits_of<float>(bits);
}

protocol::Recipe sending(uint32_t k, protocol::Dtype dtype) {
  protocol::Recipe recipe;
  recipe.top_k = k;
  recipe.uplink = dtype;
  return recipe;
}

// Encodes the k largest of `n` values in chunks of `capacity` bytes and decodes them to `decoded`. Returns success.
bool round_trip(uint32_t n, uint32_t k, protocol::Dtype dtype, size_t capacity) {
  for (float& value : decoded) value = 0.0f;
  DeltaEncoder<1> encoder;
  const uint32_t ends[] = {n};
  if (encoder.freeze(delta_at, ends, sending(k, dtype), Key(), histogram) != Status::kOk) return false;
  const size_t value_bytes = protocol::width(dtype);
  uint32_t rank = 0;
  while (rank < k) {
    protocol::Delta header{};
    size_t size = 0;
    if (encoder.encode(delta_at, rank, header, data, capacity, size) != Status::kOk || size > capacity) return false;
    if (header.rank != rank || header.count == 0) return false;
    const uint8_t* value = data + size - header.count * value_bytes;
    BitReader bits{data, 0};
    uint32_t index = header.base;
    for (uint32_t i = 0; i < header.count; ++i, value += value_bytes, ++index) {
      index += read_gap(bits, header.coding);
      if (index >= n) return false;
      decoded[index] = read_value(value, header);
    }
    if (data + (bits.at + 7) / 8 + header.count * value_bytes != data + size) return false;  // bytes left over
    rank += header.count;
  }
  return rank == k;
}

uint32_t priority_at(uint32_t i) { return magnitude_bits(values[i]); }

// The magnitude of the k-th largest of all values.
uint32_t threshold(uint32_t k) { return select_top(priority_at, 0, kMost, k, histogram).threshold; }

}  // namespace

TEST("a whole float32 delta is decoded to the same bits") {
  constexpr uint32_t kShares[] = {3, 60, 256};
  constexpr size_t kCapacities[] = {16, 100, 700};
  for (uint32_t share : kShares) {
    for (size_t capacity : kCapacities) {
      make(kMost, share);
      CHECK(round_trip(kMost, kMost, protocol::Dtype::kF32, capacity));
      for (uint32_t i = 0; i < kMost; ++i) CHECK(decoded[i] == values[i]);
    }
  }
}

TEST("of a sparse delta exactly the selected entries are decoded") {
  constexpr uint32_t kSelected[] = {1, 7, 100, 399};
  for (uint32_t k : kSelected) {
    make(kMost, 200);
    CHECK(round_trip(kMost, k, protocol::Dtype::kF32, 64));
    const uint32_t least = threshold(k);
    uint32_t found = 0;
    for (uint32_t i = 0; i < kMost; ++i) {
      if (decoded[i] == 0.0f) {
        CHECK(magnitude_bits(values[i]) <= least);
      } else {
        CHECK(decoded[i] == values[i] && magnitude_bits(values[i]) >= least);
        ++found;
      }
    }
    CHECK(found <= k);
  }
}

TEST("int8 values have an error of half a step at most") {
  make(kMost, 256);
  CHECK(round_trip(kMost, kMost, protocol::Dtype::kI8, 80));
  const float step = bits_of<float>(threshold(1)) / 127.0f;
  for (uint32_t i = 0; i < kMost; ++i) {
    const float error = decoded[i] - values[i];
    CHECK((error < 0 ? -error : error) <= step * 0.501f);
  }
}

TEST("float16 values are the nearest float16") {
  make(kMost, 256);
  CHECK(round_trip(kMost, kMost, protocol::Dtype::kF16, 80));
  for (uint32_t i = 0; i < kMost; ++i) {
    uint16_t bits = 0;
    CHECK(to_f16(values[i], bits) == Status::kOk);
    CHECK(decoded[i] == from_f16(bits));
  }
}

TEST("a delta that cannot be sent is refused") {
  make(kMost, 256);
  DeltaEncoder<1> encoder;
  const uint32_t ends[] = {kMost};
  const auto freeze = [&](uint32_t k, protocol::Dtype dtype) {
    return encoder.freeze(delta_at, ends, sending(k, dtype), Key(), histogram);
  };
  CHECK(freeze(kMost + 1, protocol::Dtype::kF32) == Status::kBadValue);
  values[200] = 1e6f;
  CHECK(freeze(10, protocol::Dtype::kF16) == Status::kOverflow);
  values[200] = bits_of<float>(0x7F800000u);
  CHECK(freeze(10, protocol::Dtype::kF32) == Status::kNotFinite);
  CHECK(encoder.count() == 0);
}

}  // namespace tmf
