// Moves and clears values of an input in its place: an image is lines of values, row by row.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf::augment {

// Moves each of `lines` lines of `length` values by `by` places, to later ones if it is positive. Zeros take the place of
// what moves in; `by` is shorter than a line.
template <typename Value>
void shift(Value* values, uint32_t lines, uint32_t length, int32_t by) {
  if (by == 0) return;
  const uint32_t places = static_cast<uint32_t>(by > 0 ? by : -by);
  for (uint32_t line = 0; line < lines; ++line, values += length) {
    if (by > 0) {
      std::memmove(values + places, values, sizeof(Value) * (length - places));
      std::memset(values, 0, sizeof(Value) * places);
    } else {
      std::memmove(values, values + places, sizeof(Value) * (length - places));
      std::memset(values + length - places, 0, sizeof(Value) * places);
    }
  }
}

// Copies what `shift` by `by` moves out of each line to `saved`, or back from there after the shift the other way.
template <typename Value>
void save_edge(const Value* values, uint32_t lines, uint32_t length, int32_t by, Value* saved) {
  const uint32_t places = static_cast<uint32_t>(by > 0 ? by : -by);
  if (by > 0) values += length - places;
  for (uint32_t line = 0; line < lines; ++line) std::memcpy(saved + line * places, values + line * length, sizeof(Value) * places);
}
template <typename Value>
void put_edge_back(Value* values, uint32_t lines, uint32_t length, int32_t by, const Value* saved) {
  const uint32_t places = static_cast<uint32_t>(by > 0 ? by : -by);
  if (by > 0) values += length - places;
  for (uint32_t line = 0; line < lines; ++line) std::memcpy(values + line * length, saved + line * places, sizeof(Value) * places);
}

// Sets `places` values from `first` on to 0 in each line.
template <typename Value>
void clear(Value* values, uint32_t lines, uint32_t length, uint32_t first, uint32_t places) {
  for (uint32_t line = 0; line < lines; ++line) std::memset(values + line * length + first, 0, sizeof(Value) * places);
}

}  // namespace tmf::augment
