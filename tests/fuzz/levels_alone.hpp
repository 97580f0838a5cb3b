// The reader of levels alone, in heap buffers of the exact size: a range code that it accepts is the one that an encoder writes.
#pragma once

#include <cstdlib>
#include <cstring>

#include "checks.hpp"
#include "level_facts.hpp"
#include "levels/level_code.hpp"

namespace {

template <uint32_t kBits>
void run_levels_of(Reader& in) {
  const auto coding = static_cast<LevelCoding>(in.u8() % 2);
  const uint32_t count = 1 + in.u16() % 600;
  const size_t size = in.left();
  uint8_t* const data = static_cast<uint8_t*>(std::malloc(size > 0 ? size : 1));
  in.bytes(data, size);
  LevelReader<kBits, true> reader(coding, data, size);
  std::vector<int32_t> levels;
  for (uint32_t i = 0; i < count; ++i) levels.push_back(reader.next());
  const int32_t largest = LevelCode<kBits>::kLargest;
  for (const int32_t level : levels)
    check(level <= largest && level >= -largest - (coding == LevelCoding::kPacked), "I7", "a level is beyond its format");
  if (reader.is_used_up() && coding == LevelCoding::kRange) {
    Bytes again(size + kRangeEndBytes);
    RangeEncoder encoder(again.data());
    LevelCode<kBits> code;
    for (const int32_t level : levels) code.code(encoder, level);
    check(encoder.size() == size, "I7", "a range code has another length than its levels take");
    encoder.close();
    check(std::memcmp(again.data(), data, size) == 0, "I7", "a range code that no encoder writes was accepted");
  }
  std::free(data);
}

void run_levels(Reader in) {
  switch (in.u8() % 4) {
    case 0: return run_levels_of<8>(in);
    case 1: return run_levels_of<4>(in);
    case 2: return run_levels_of<3>(in);
    default: return run_levels_of<2>(in);
  }
}

}  // namespace
