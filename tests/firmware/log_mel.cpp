// Tests the bits of spectrograms, which must be those of the host, and the labels of sounds.
#include "sound/front_end.hpp"

#include "check.hpp"
#include "crc32.hpp"
#include "log_mel_facts.hpp"

namespace tmf {
namespace {

constexpr uint32_t kRecorded = 0xA884F125;  // tests/core/test_log_mel_front_end.py compares it with the host's

sound::LogMel<sound::LogMelFacts> front_end;

// A zigzag whose slope changes with time.
struct Zigzag {
  int32_t at = 0;
  int32_t slope = 200;

  int32_t next() {
    at += slope;
    if (at > 9000 || at < -9000) {
      slope = -slope;
      at += 2 * slope;
    }
    slope += slope > 0 ? 1 : -1;
    return at;
  }
};

}  // namespace

TEST("spectrograms have the recorded bits") {
  uint32_t crc = 0;
  uint32_t sounds = 0;
  const auto keep = [&] {
    uint8_t levels[sound::LogMelFacts::kBands * sound::LogMelFacts::kFrames];
    front_end.write(levels);
    crc = crc32(levels, sizeof levels, crc);
    ++sounds;
  };
  Zigzag zigzag;
  for (uint32_t i = 0; i < 6000; ++i) {
    const int32_t at = zigzag.next();
    if (front_end.add(i % 2000 > 1400 ? 0 : static_cast<int16_t>(at))) keep();
  }
  if (front_end.finish()) keep();
  CHECK(sounds == 3);
  CHECK(crc == kRecorded);
}

TEST("a sound has the last label since the sound before it") {
  static sound::FrontEnd<sound::LogMelFacts> front;
  // Three sounds of a zigzag; a label comes in the middle of the first, two in the pause before the second, none afterwards.
  const int expected[] = {3, 1, sensor::kNoLabel};
  int heard = 0;
  Zigzag zigzag;
  for (int i = 0; i < 6000; ++i) {
    const int32_t at = zigzag.next();
    const auto sample = static_cast<float>(i % 2000 > 1000 ? 0 : at);
    const int label = i == 500 ? 3 : i == 1950 ? 2 : i == 2050 ? 1 : sensor::kNoLabel;
    if (!front.add(&sample, label)) continue;
    CHECK(heard < 3 && front.label() == expected[heard]);
    ++heard;
  }
  CHECK(heard == 3 && !front.end());
}

TEST("numbers beyond 16 bits are the loudest samples") {
  CHECK(sound::to_sample(40000.0f) == 32767 && sound::to_sample(-40000.0f) == -32768);
  CHECK(sound::to_sample(1.5f) == 2 && sound::to_sample(-0.4f) == 0 && sound::to_sample(32766.6f) == 32767);
}

}  // namespace tmf
