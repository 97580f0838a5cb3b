// A recording in place of a sensor: reads rows that the host has prepared, at the speed at which they are asked for.
//
// The file has "TMFR", then as u32 the numbers of a row, and the rows: kChannels float32, then an i16 label, and an i16 that is 1
// for a row before which others are missing. All in the byte order of the board.
#include <cstring>

#include "sensor_facts.hpp"

#include <sensor/replay.hpp>

namespace tmf::sensor {
namespace {

struct Row {
  float numbers[kChannels];
  int16_t label;
  int16_t after_gap;
};

struct Head {
  char magic[4];
  uint32_t channels;
};

constexpr uint32_t kBuffered = sizeof(Row) >= 256 ? 1 : 256 / sizeof(Row);  // rows that are read at once

Row rows[kBuffered];
uint32_t buffered = 0;
uint32_t used = 0;
uint32_t at = 0;  // bytes read so far

}  // namespace

bool begin() {
  Head head;
  buffered = 0;
  used = 0;
  at = sizeof head;
  return port::replay::open() && port::replay::read(0, &head, sizeof head) == sizeof head &&
         std::memcmp(head.magic, "TMFR", sizeof head.magic) == 0 && head.channels == kChannels;
}

Reading read(float* row, int& label) {
  if (used == buffered) {
    const size_t size = port::replay::read(at, rows, sizeof rows);
    buffered = static_cast<uint32_t>(size / sizeof(Row));
    used = 0;
    at += buffered * static_cast<uint32_t>(sizeof(Row));
    if (buffered == 0) return Reading::kEnd;
  }
  const Row& next = rows[used++];
  std::memcpy(row, next.numbers, sizeof next.numbers);
  label = next.label;
  return next.after_gap != 0 ? Reading::kRowAfterGap : Reading::kRow;
}

}  // namespace tmf::sensor
