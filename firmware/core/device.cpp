// The one device of a program, and the functions that a program calls.
#include "device.hpp"

#include <measures.hpp>  // generated for firmware that measures itself
#include <sensing.hpp>   // generated for firmware with a sensor

#include "dispatch.hpp"
#include "math.hpp"
#include "own_program.hpp"
#include "own_statistics.hpp"
#include "port.hpp"

namespace tmf {
namespace {

static_assert(kFeatures == model::kInputSize && kScores == model::kOutputSize && kTargets == model::kTargetSize, "one model");

// Static, so that the linker counts its memory.
Dispatcher dispatcher;
Sensing sensing;

// Answers the messages of firmware with a store, a sensor, measurements, secure aggregation, coded updates, levels or differences of
// weights, and the host's question how the board has done, once it has learned.
Outcome answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
  if (type != protocol::Inspect::kType || own_statistics.count() == 0) {
    uint32_t detail = 0;
    const Status status = sensing.answer(type, payload, size, out, detail);
    if (status != Status::kUnknownType) return {status, detail};
    const Status measured = Measures::answer(type, payload, size, out);
    if (measured != Status::kUnknownType) return measured;
    const Outcome outcome = dispatcher.learner().secure_sum(type, payload, size, out);
    if (outcome.status != Status::kUnknownType) return outcome;
    const Outcome coded = dispatcher.learner().coded_update(type, payload, size, out);
    if (coded.status != Status::kUnknownType) return coded;
    const Outcome loaded = dispatcher.learner().level_load(type, payload, size, out);
    if (loaded.status != Status::kUnknownType) return loaded;
    const Outcome changed = dispatcher.learner().difference(type, payload, size, out);
    if (changed.status != Status::kUnknownType) return changed;
    return dispatcher.learner().store(type, payload, size, out);
  }
  protocol::Inspect request;
  if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
  protocol::Inspection answer;
  const Statistics now = statistics();
  answer.learned = now.learned;
  answer.error = now.error;
  answer.drifted = now.drifted ? 1 : 0;
  answer.write(out);
  return Status::kOk;
}

uint8_t received[64];  // bytes read from the line
uint8_t received_size = 0;
uint8_t used = 0;  // of them

// Answers at most one request. Returns whether there were bytes.
bool listen() {
  if (used == received_size) {
    used = 0;
    received_size = static_cast<uint8_t>(port::read(received, sizeof received));
  }
  const bool any = used < received_size;
  used = static_cast<uint8_t>(used + dispatcher.receive(received + used, received_size - used));
  return any;
}

bool sense() { return Sensing::kSenses && sensing.work(dispatcher.learner().is_free()); }

}  // namespace

void start() {
  Measures::begin();
  dispatcher.begin();
  constexpr bool kAnswers = SavedState::kIsStored || Sensing::kSenses || Measures::kMeasures || SecureSum::kIsSecure ||
                            CodedUpdate::kIsCoded || LevelLoad::kTakesLevels || HeldVersion::kTakesDifferences;
  if (kAnswers) dispatcher.answer_also(answer);
  sensing.begin();
}

bool poll() {
  const bool any = !dispatcher.learner().in_step() && listen();
  const bool trained = dispatcher.work();
  while (dispatcher.learner().in_step()) dispatcher.work();
  const bool sensed = sense();
  return trained || sensed || any;
}

bool poll_within(uint32_t budget_us) {
  if constexpr (kSplitsSteps) {
    const uint32_t begun = port::ticks();
    const uint64_t budget = uint64_t{budget_us} * board::kTicksPerSecond / 1'000'000;
    const bool any = !dispatcher.learner().in_step() && listen();
    bool trained = dispatcher.work();
    while (dispatcher.learner().in_step() && port::ticks() - begun < budget) trained = dispatcher.work();
    if (dispatcher.learner().in_step()) return true;
    const bool sensed = sense();
    return trained || sensed || any;
  }
  return poll();
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
  if (!SavedState::kIsStored) dispatcher.answer_also(answer);
  return dispatcher.learner().learn(features, targets);
}

Status save() { return dispatcher.learner().keep(); }

Statistics statistics() { return {own_statistics.count(), own_statistics.error(), own_statistics.drifted()}; }

int best(const float* scores) {
  if (kScores == 1) return scores[0] > 0.0f ? 1 : 0;
  int found = 0;
  for (int i = 1; i < kScores; ++i)
    if (scores[i] > scores[found]) found = i;
  return found;
}

float confidence(const float* scores) {
  if (kTargetsAreValues) return 1.0f;
  if (kScores == 1) return 1.0f / (1.0f + exp(scores[0] > 0.0f ? -scores[0] : scores[0]));
  const float highest = scores[best(scores)];
  float sum = 0.0f;
  for (int i = 0; i < kScores; ++i) sum += exp(scores[i] - highest);
  return 1.0f / sum;
}

Status adapt() {
  const Status status = dispatcher.learner().adapt();
  if (status == Status::kOk) own_statistics.clear_drift();
  return status;
}

void leave_round() { dispatcher.learner().leave(); }

}  // namespace tmf
