// Measures the log-mel front end on a board: for every byte received it hears a second of sound and writes a line with what that
// took. host/tinymetafed/bench/sound_cost.py is the other side.
#include <cstring>

#include "log_mel_facts.hpp"
#include "port.hpp"
#include "sound/front_end.hpp"

namespace {

using Facts = tmf::sound::LogMelFacts;

tmf::sound::FrontEnd<Facts> front_end;
float sample[Facts::kBands * Facts::kFrames];

void say(uint32_t number, const char* after) {
  char digits[12] = {};
  size_t at = sizeof digits - 1;
  do digits[--at] = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  tmf::port::write(reinterpret_cast<const uint8_t*>(digits + at), sizeof digits - 1 - at);
  tmf::port::write(reinterpret_cast<const uint8_t*>(after), std::strlen(after));
}

// A zigzag whose slope changes with time: loud all the time, so that every frame belongs to a sound.
float next_sample() {
  static int32_t at = 0;
  static int32_t slope = 200;
  at += slope;
  if (at > 9000 || at < -9000) {
    slope = -slope;
    at += 2 * slope;
  }
  slope += slope > 0 ? 1 : -1;
  return static_cast<float>(at);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tmf;
  port::init(argc, argv);
  for (;;) {
    uint8_t byte;
    while (port::read(&byte, 1) == 0) port::wait();
    uint32_t hearing = 0;
    uint32_t writing = 0;  // of the longest sound
    const auto write = [&] {
      const uint32_t begin = port::ticks();
      front_end.write(sample);
      const uint32_t taken = port::ticks() - begin;
      if (taken > writing) writing = taken;
    };
    for (uint32_t i = 0; i < Facts::kRate; ++i) {
      const float heard = next_sample();
      const uint32_t begin = port::ticks();
      const bool complete = front_end.add(&heard, sensor::kNoLabel);
      hearing += port::ticks() - begin;
      if (complete) write();
    }
    if (front_end.end()) write();
    say(sizeof front_end, " ");
    say(hearing, " ");
    say(writing, "\n");
  }
}
