// Tests the bits of spectrograms: a board with a microphone must make those of the host.
#include "sound/log_mel.hpp"

#include "check.hpp"
#include "crc32.hpp"
#include "log_mel_facts.hpp"

namespace tmf {
namespace {

constexpr uint32_t kRecorded = 0xA884F125;  // tests/core/test_log_mel_front_end.py compares it with the host's

sound::LogMel<sound::LogMelFacts> front_end;

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
  int32_t at = 0;
  int32_t slope = 200;
  for (uint32_t i = 0; i < 6000; ++i) {
    at += slope;
    if (at > 9000 || at < -9000) {
      slope = -slope;
      at += 2 * slope;
    }
    slope += slope > 0 ? 1 : -1;
    if (front_end.add(i % 2000 > 1400 ? 0 : static_cast<int16_t>(at))) keep();
  }
  if (front_end.finish()) keep();
  CHECK(sounds == 3);
  CHECK(crc == kRecorded);
}

}  // namespace tmf
