// A sketch as a shared library: tests bring the bytes of its line and call its functions.
#include <tinymetafed.h>

#include <string>

namespace {

struct Memory : Stream {
  std::string down, up;

  int available() { return static_cast<int>(down.size()); }
  int peek() { return -1; }
  int read() {
    const int byte = static_cast<uint8_t>(down[0]);
    down.erase(0, 1);
    return byte;
  }
  size_t write(uint8_t byte) { return write(&byte, 1); }
  size_t write(const uint8_t* from, size_t size) {
    up.append(reinterpret_cast<const char*>(from), size);
    return size;
  }
};

Memory line;

}  // namespace

void setup() { tmf::begin(line); }
void loop() {}

extern "C" {
void sketch_setup() { setup(); }
void sketch_receive(const char* bytes, size_t size) { line.down.append(bytes, size); }
bool sketch_poll() { return tmf::poll(); }
#ifdef SPLITS_STEPS
bool sketch_poll_within(uint32_t microseconds) { return tmf::poll(microseconds); }
#endif
size_t sketch_sent(char* to) {
  const size_t size = line.up.copy(to, line.up.size());
  line.up.clear();
  return size;
}
int sketch_predict(const float* features, float* scores) { return static_cast<int>(tmf::predict(features, scores)); }
int sketch_learn(const float* features, const float* targets) { return static_cast<int>(tmf::learn(features, targets)); }
int sketch_learn_label(const float* features, int label) { return static_cast<int>(tmf::learn(features, label)); }
int sketch_best(const float* scores) { return tmf::best(scores); }
float sketch_confidence(const float* scores) { return tmf::confidence(scores); }
int sketch_statistics(uint32_t* learned, float* error) {
  const tmf::Statistics now = tmf::statistics();
  *learned = now.learned;
  *error = now.error;
  return now.drifted;
}
int sketch_adapt() { return static_cast<int>(tmf::adapt()); }
void sketch_leave() { tmf::leave_round(); }
}
