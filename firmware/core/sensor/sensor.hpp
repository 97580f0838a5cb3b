// The interface of a sensor: rows of numbers over time, each with or without a label. The user's file, board.sensor of the
// experiment, has a class Sensor with these two functions; firmware/app/sensor_own.cpp calls it. On a board that runs as a
// process a recording takes its place: firmware/app/sensor_replayed.cpp.
#pragma once

#include <cstdint>

namespace tmf::sensor {

constexpr int kNoLabel = -1;

// What a read has found.
enum class [[nodiscard]] Reading : uint8_t {
  kNothingNew,   // no row since the last read; asked again soon
  kRow,          // the next row
  kRowAfterGap,  // a row, and rows before it are missing: no window spans the two
  kFault,        // the sensor does not answer; asked again soon, as it may come back
  kEnd,          // there are no more rows: a recording has ended
};

// Starts the sensor. Called when the device starts, and again whenever the host begins to record. False: it is missing, and
// called again a second later.
bool begin();

// Writes the numbers of one row (kChannels of sensor_facts.hpp) to `row`, and its label to `label`, which is kNoLabel before. Does
// not wait for a row. A label comes from the user, for instance by a button that is held down.
Reading read(float* row, int& label);

}  // namespace tmf::sensor
