// The front end and the sensing pipeline under test, as a shared library: the test is the sensor, the clock and the model.
#include "sensing.hpp"  // generated

#include <cstring>
#include <new>

using namespace tmf;

namespace {

struct {
  bool there;
  int begun;  // calls of the sensor's begin()
  sensor::Reading reading;
  float row[sensor::kChannels];
  int label;
  uint32_t ticks;
  Status learned;
  int learned_label;
  float sample[kFeatures];
  bool has_weights;
} world;

Sensing sensing;

template <typename Front>
int32_t cut(const float* rows, int32_t numbers, const int32_t* labels, const uint8_t* gaps, int32_t count, float* windows,
            int32_t* found) {
  static Front front;
  front = Front();
  int32_t made = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (gaps[i] != 0) front.end();
    if (!front.add(rows + i * numbers, labels[i])) continue;
    front.write(windows + made * Front::kSize);
    found[made++] = front.label();
  }
  return made;
}

}  // namespace

bool sensor::begin() {
  ++world.begun;
  return world.there;
}

sensor::Reading sensor::read(float* row, int& label) {
  std::memcpy(row, world.row, sizeof world.row);
  label = world.label;
  const Reading now = world.reading;
  world.reading = Reading::kNothingNew;
  return now;
}

uint32_t port::ticks() { return world.ticks; }

Status tmf::predict(const float* features, float* scores) {
  std::memcpy(world.sample, features, sizeof world.sample);
  if (!world.has_weights) return Status::kBadState;
  for (int i = 0; i < kScores; ++i) scores[i] = i == 1;
  return Status::kOk;
}

Status tmf::learn(const float*, int label) {
  if (world.learned == Status::kOk) world.learned_label = label;
  return world.learned;
}

int tmf::best(const float*) { return 1; }

float tmf::confidence(const float*) { return 0.5f; }

extern "C" {

int32_t windows_cut(int32_t kind, const float* rows, const int32_t* labels, const uint8_t* gaps, int32_t count, float* windows,
                    int32_t* found) {
  switch (kind) {
    case 0:
      return cut<sensor::Windows<3, 5, 2, false, 4>>(rows, 3, labels, gaps, count, windows, found);
    case 1:
      return cut<sensor::Windows<3, 5, 2, true, 4>>(rows, 3, labels, gaps, count, windows, found);
    case 2:
      return cut<sensor::Windows<2, 4, 7, false, 4>>(rows, 2, labels, gaps, count, windows, found);
    case 3:
      return cut<sensor::Windows<1, 6, 6, true, 4>>(rows, 1, labels, gaps, count, windows, found);
    default:
      return cut<sensor::Windows<4, 1, 1, false, 4>>(rows, 4, labels, gaps, count, windows, found);
  }
}

void sensing_begin(bool there, bool has_weights) {
  std::memset(&world, 0, sizeof world);
  world.there = there;
  world.has_weights = has_weights;
  world.learned_label = -1;
  new (&sensing) Sensing();
  sensing.begin();
}

bool sensing_work(int32_t reading, const float* row, int32_t label, uint32_t ticks) {
  world.reading = static_cast<sensor::Reading>(reading);
  std::memcpy(world.row, row, sizeof world.row);
  world.label = label;
  world.ticks = ticks;
  return sensing.work(world.has_weights);
}

void sensing_refuse(int32_t status) { world.learned = static_cast<Status>(status); }

void sensing_appears() { world.there = true; }

int32_t sensing_begun() { return world.begun; }

int32_t sensing_learned() { return world.learned_label; }

// Returns the size of the answer, or minus the status.
int32_t sensing_answer(uint8_t type, const uint8_t* payload, int32_t size, uint8_t* answer, int32_t capacity) {
  Writer out(answer, static_cast<size_t>(capacity));
  uint32_t detail = 0;
  const Status status = sensing.answer(type, payload, static_cast<size_t>(size), out, detail);
  return status == Status::kOk ? static_cast<int32_t>(out.size()) : -static_cast<int32_t>(status);
}

}  // extern "C"
