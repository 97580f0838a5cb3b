// The one device of a program, and the functions that a program calls.
#include "device.hpp"

#include "dispatch.hpp"
#include "port.hpp"

namespace tmf {
namespace {

static_assert(kFeatures == model::kInputSize && kScores == model::kOutputSize && kTargets == model::kTargetSize, "one model");

// Static, so that the linker counts its memory.
Dispatcher dispatcher;

uint8_t received[64];  // bytes read from the line
uint8_t received_size = 0;
uint8_t used = 0;  // of them

}  // namespace

bool poll() {
  if (used == received_size) {
    used = 0;
    received_size = static_cast<uint8_t>(port::read(received, sizeof received));
  }
  const bool any = used < received_size;
  used = static_cast<uint8_t>(used + dispatcher.receive(received + used, received_size - used));
  return dispatcher.work() || any;
}

void wait() { port::wait(); }

Status predict(const float* features, float* scores) {
  if (features == nullptr || scores == nullptr) return Status::kBadValue;
  return dispatcher.learner().predict(features, scores);
}

Status learn(const float* features, int label) {
  if (label < 0 || label >= kClasses) return Status::kBadValue;
  const float target = static_cast<float>(label);
  return learn(features, &target);
}

Status learn(const float* features, const float* targets) {
  if (features == nullptr || targets == nullptr) return Status::kBadValue;
  return dispatcher.learner().learn(features, targets);
}

Status adapt() { return dispatcher.learner().adapt(); }

void leave_round() { dispatcher.learner().leave(); }

}  // namespace tmf
