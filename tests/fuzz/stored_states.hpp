// The stored states of the device that inputs begin from, and how they are made.
#pragma once

#include <cstring>

#include "operations.hpp"

namespace {

Bytes states[kStates];
Bytes flashes[kStates];
KeptSet kept_sets[kStates];

template <typename Message>
void say(const Message& message) {
  Bytes line;
  feed(framed(body_of(message, 9)), line);
}

void keep(int state) {
  states[state].assign(device_bytes, device_bytes + sizeof device_bytes);
  flashes[state] = flash;
  kept_sets[state] = kept_set;
}

void restore(int state) {
  static int last = -1;
  static uint32_t written = 0;
  std::memcpy(device_bytes, states[state].data(), sizeof device_bytes);
  if (state != last || flash_writes != written) flash = flashes[state];
  kept_set = kept_sets[state];
  trained_run = kRun;
  last = state;
  written = flash_writes;
}

void load_all(uint32_t token = kToken) {
  Bytes data;
  for (uint32_t at = 0; at < kGlobal; at += static_cast<uint32_t>(data.size() / kWidth)) say(weights_from(token, at, data));
}

void train_steps(uint32_t first, uint32_t steps, uint32_t token = kToken) {
  for (uint32_t step = first; step < first + steps; ++step) {
    if (source::on_device()) {
      work();
      continue;
    }
    const Bytes data = sample_data();
    say(Sample{token, step, Dtype::kU8, 1.0f / 255, data.data(), data.size()});
  }
}

void say_run() {
#if HAS_STORE
  device().answer_also(store_messages);
  say(Recall{kRun});
#endif
}

void make_states() {
  forget_frozen();
  new (device_bytes) Dispatcher();
  device().begin();
  say_run();
  keep(0);
  for (const Dtype uplink : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    restore(0);
    say(configuration(Program::kTrain, uplink));
    say(configuration(Program::kAdapt, uplink));
    if (uplink == Dtype::kF32) {
      keep(1);
      load_all(kToken - 1);
      say(Train{kToken - 1, Program::kTrain, 1, 2, 3});
      train_steps(0, kSteps, kToken - 1);
      Bytes data;
      say(weights_from(kToken, 0, data));
      keep(2);
    }
    load_all();
    if (uplink == Dtype::kF32) keep(3);
    say(Train{kToken, Program::kTrain, 1, 2, 3});
    if (uplink == Dtype::kF32) keep(4);
    train_steps(0, 3);
    if (uplink == Dtype::kF16) keep(11);  // the first pass over the samples, which a device that keeps them needs no more
    train_steps(3, 4);
    if (uplink == Dtype::kF16) keep(5);
    train_steps(7, 1);
    check(is(Learner_state_{}) == State::kDone && is(Learner_step_{}) == kSteps, "I3", "the stored states are not reached");
    keep(6 + static_cast<int>(uplink));
  }
  // Two programs one step before their end: one leads to weights that are not finite, one to a delta beyond float16.
  for (const float rate : {1e30f, 1e6f}) {
    restore(0);
    Configure wild = configuration(Program::kTrain, Dtype::kF16);
    wild.recipe.phases[0] = {Variant::kGlobal, SampleSet::kQuery, 4, 2, rate, 1.0f};
    wild.recipe.phases[1].passes = 0;
    say(wild);
    load_all();
    say(Train{kToken, Program::kTrain, 1, 2, 3});
    train_steps(0, 7);
    keep(rate > 1e10f ? 9 : 10);
  }
}

// What the board's own program learns between two rounds of a client is where its local weights start from in the second.
void check_learned() {
  if (!model::kKeepsLocal || source::on_device()) return;
  restore(6);
  learner().leave();
  float inputs[model::kInputSize];
  for (uint32_t i = 0; i < model::kInputSize; ++i) inputs[i] = static_cast<float>(i % 5) * 0.1f;
  const float targets[model::kTargetSize] = {1.0f};
  const auto& weights = learner().*reveal(Learner_parameters_{});
  const auto locals = [&] { return std::vector<float>(weights + kGlobal, weights + kParameters); };
  const std::vector<float> trained = locals();
  check(learner().learn(inputs, targets) == Status::kOk, "I12", "the board's own program cannot learn after a round");
  const std::vector<float> learned = locals();
  check(learned != trained, "I12", "a sample that was learned has changed no local weight");
  load_all(kToken + 1);
  say(Train{kToken + 1, Program::kTrain, 1, 2, 4});
  check(is(Learner_state_{}) == State::kTraining && locals() == learned, "I12", "what the board has learned is lost in the next round");
  // A new session forgets it, and the round starts from the state after the last one, or from nothing.
  Configure again = configuration(Program::kTrain, Dtype::kF32);
  again.session = kSession + 1;
  say(again);
  load_all(kToken + 2);
  say(Train{kToken + 2, Program::kTrain, 1, 2, 4});
  check(!HAS_STORE || locals() == trained, "I12", "a new session does not start from the saved state");
}

}  // namespace
