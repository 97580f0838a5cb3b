// Index codings, value formats and chunks of a delta; delta_codec.hpp describes them.
#include "delta_codec.hpp"

#include <coded_update.hpp>  // generated for firmware whose updates are coded; says how large a level is

namespace tmf::delta {

using protocol::Coding;

namespace {

uint32_t rice_parameter(Coding coding) { return static_cast<uint32_t>(coding); }
Coding rice(uint32_t parameter) { return static_cast<Coding>(parameter); }

}  // namespace

uint32_t index_bits(Coding coding, uint32_t gap) {
  if (coding == Coding::kRun) return 0;
  if (coding == Coding::kBitmap) return gap + 1;
  const uint32_t parameter = rice_parameter(coding);
  const uint32_t quotient = gap >> parameter;
  return quotient < protocol::kRiceEscape ? quotient + 1 + parameter : protocol::kRiceEscape + protocol::kRiceRawBits;
}

void Planner::add(uint32_t gap) {
  ++entries_;
  gaps_ += gap;
  if (gap < bins_) {
    ++histogram_[gap];
  } else {
    count(gap, 1);  // happens at most n / bins_ times
  }
}

void Planner::count(uint32_t gap, uint32_t times) {
  for (uint32_t r = 0; r < kParameters; ++r) rice_bits_[r] += times * index_bits(rice(r), gap);
}

Coding Planner::best() {
  if (gaps_ == 0) return Coding::kRun;
  for (uint32_t gap = 0; gap < bins_; ++gap) {
    if (histogram_[gap] > 0) count(gap, histogram_[gap]);
  }
  uint32_t best = 0;
  for (uint32_t r = 1; r < kParameters; ++r) {
    if (rice_bits_[r] < rice_bits_[best]) best = r;
  }
  return gaps_ + entries_ < rice_bits_[best] ? Coding::kBitmap : rice(best);
}

Status Format::set(protocol::Dtype uplink, uint32_t magnitude) {
  constexpr float kSmallestNormal = 0x1p-126f;
  if (magnitude >= kInfiniteMagnitude) return Status::kNotFinite;
  const float largest = bits_of<float>(magnitude);
  dtype = uplink;
  scale = 0;
  switch (dtype) {
    case protocol::Dtype::kF32:
      return Status::kOk;
    case protocol::Dtype::kF16: {
      uint16_t unused;
      return to_f16(largest, unused);
    }
    case protocol::Dtype::kI8:
      scale = largest / static_cast<float>(CodedUpdate::kLargest);
      if (scale < kSmallestNormal) scale = 0;  // a subnormal scale is too imprecise to divide by
      return Status::kOk;
    default:
      return Status::kBadValue;
  }
}

Status Format::convert(float value, uint32_t& bits) const {
  if (dtype == protocol::Dtype::kF16) {
    uint16_t half = 0;
    const Status status = to_f16(value, half);
    bits = half;
    return status;
  }
  if (dtype == protocol::Dtype::kI8) value = scale > 0 ? with_level(value / scale) : with_level(0.0f);
  std::memcpy(&bits, &value, sizeof bits);
  return Status::kOk;
}

bool Chunk::fits(uint32_t bits, size_t value_bytes) const {
  return (bits_ + bits + 7) / 8 + value_bytes <= values_at_;
}

void Chunk::add(Coding coding, uint32_t gap, uint32_t value, size_t value_bytes) {
  if (coding == Coding::kRun) {
    // No index bits: every gap is 0.
  } else if (coding == Coding::kBitmap) {
    for (; gap >= 32; gap -= 32) put(0, 32);
    put(1u << gap, gap + 1);
  } else if (const uint32_t quotient = gap >> rice_parameter(coding); quotient < protocol::kRiceEscape) {
    put((1u << quotient) - 1, quotient + 1);
    put(gap, rice_parameter(coding));
  } else {
    put((1u << protocol::kRiceEscape) - 1, protocol::kRiceEscape);
    put(gap, protocol::kRiceRawBits);
  }
  for (size_t i = 0; i < value_bytes; ++i) data_[--values_at_] = static_cast<uint8_t>(value >> (8 * i));
}

size_t Chunk::close() {
  // `add` wrote the values from last to first, and each value's bytes from last to first: one reversal corrects both.
  for (size_t low = values_at_, high = capacity_; low + 1 < high; ++low) {
    const uint8_t swapped = data_[low];
    data_[low] = data_[--high];
    data_[high] = swapped;
  }
  const size_t index_bytes = (bits_ + 7) / 8;
  const size_t value_bytes = capacity_ - values_at_;
  std::memmove(data_ + index_bytes, data_ + values_at_, value_bytes);
  return index_bytes + value_bytes;
}

void Chunk::put(uint32_t bits, uint32_t count) {
  while (count > 0) {
    const uint32_t used = bits_ % 8;
    const uint32_t room = 8 - used;
    const uint32_t take = count < room ? count : room;
    const uint32_t written = used == 0 ? 0 : data_[bits_ / 8];
    data_[bits_ / 8] = static_cast<uint8_t>(written | (bits & ((1u << take) - 1)) << used);
    bits >>= take;
    bits_ += take;
    count -= take;
  }
}

}  // namespace tmf::delta
