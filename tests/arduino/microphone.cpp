// Plays three blocks of samples to the sensor of an example, and prints its rows: one on a line, "gap" before one after a gap.
#include <cstdint>
#include <cstdio>

#include "sensor_facts.hpp"

#include "own_sensor.hpp"

namespace {

#ifdef I2S
using Sample = int32_t;
constexpr Sample kOne = 1 << 14;
void play(const Sample* samples, size_t count, bool lost) { microphone_on_pins = {samples, count, lost, true}; }
#else
using Sample = int16_t;
constexpr Sample kOne = 1;
void play(const Sample* samples, size_t count, bool lost) {
  // The interrupt comes for each block of 256; the ring is overwritten where the program has not read in time.
  static const Sample unread[8192] = {};
  for (size_t i = 0; lost && i < 8192; i += 256) PDM.play(unread + i, 256);
  for (size_t i = 0; i < count; i += 256) PDM.play(samples + i, count - i < 256 ? count - i : 256);
}
#endif

Sensor sensor;

void print_rows() {
  for (;;) {
    float row[1];
    int label = tmf::sensor::kNoLabel;
    const tmf::sensor::Reading reading = sensor.read(row, label);
    if (reading == tmf::sensor::Reading::kNothingNew) return;
    if (reading == tmf::sensor::Reading::kRowAfterGap) std::printf("gap\n");
    std::printf("%g\n", static_cast<double>(row[0]));
  }
}

}  // namespace

int main() {
  static Sample samples[600];
  for (int i = 0; i < 600; ++i) samples[i] = static_cast<Sample>((i - 300) * kOne);
  if (!sensor.begin()) return 1;
  play(samples, 600, false);
  print_rows();
  play(samples, 2, true);
  print_rows();
  if (!sensor.begin()) return 1;  // the host begins to record
  play(samples, 4, false);
  print_rows();
  return 0;
}
