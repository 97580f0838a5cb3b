// Makes the spectrograms of a recording on the host, with the front end that boards have.
#include "log_mel_facts.hpp"
#include "sound/log_mel.hpp"

using tmf::sound::LogMelFacts;

// Writes the spectrogram of each sound in a recording, uint8 [capacity][kBands][kFrames]. Returns the number of sounds, of which
// only the first `capacity` are written.
extern "C" __attribute__((visibility("default"))) uint32_t spectrograms(const int16_t* samples, uint32_t count, uint8_t* levels,
                                                                       uint32_t capacity) {
  tmf::sound::LogMel<LogMelFacts> front_end{};
  uint32_t sounds = 0;
  const auto keep = [&] {
    if (sounds < capacity) front_end.write(levels + sounds * LogMelFacts::kBands * LogMelFacts::kFrames);
    ++sounds;
  };
  for (uint32_t i = 0; i < count; ++i) {
    if (front_end.add(samples[i])) keep();
  }
  if (front_end.finish()) keep();
  return sounds;
}
