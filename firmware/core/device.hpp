// The device in your program: one that federates when polled, predicts, and learns. Understood by compilers from C++11 on.
//
// All functions are called by one thread, and none by an interrupt handler. The device is static memory, all zero at first, so
// no constructor has to run before them.
#pragma once

#include <cstdint>

#include "device_facts.hpp"  // generated: kFeatures, kScores, kTargets, kClasses, kReceiveWindow
#include "status.hpp"        // generated: Status, describe()

namespace tmf {

// Called once, after the port is initialised: firmware with a store has its saved weights from then on.
void start();

// Reads the line and answers at most one request, then trains at most one sample. Returns whether there was anything to do;
// otherwise there is nothing before the next bytes arrive.
bool poll();

bool poll_within(uint32_t budget_us);

// The same for firmware with board.split_steps: trains parts of a step, layer by layer, until `budget_us` have passed, at least
// one. The next call goes on with the step; requests are answered between two steps. Ends with the part during which the time
// is over.
template <typename Microseconds>
bool poll(Microseconds budget_us) {
  static_assert(kSplitsSteps || sizeof(Microseconds) == 0, "poll(budget_us) needs board.split_steps = true in the experiment");
  return poll_within(static_cast<uint32_t>(budget_us));
}

// Sleeps until bytes arrive, for a program that has nothing else to do.
void wait();

// Predicts a sample with the current weights: reads kFeatures numbers and writes kScores. kBadState: no weights have arrived
// yet, or not all. kNotFinite: a feature is NaN or infinite, or the weights have diverged. kBadValue: a feature is too large for
// the statistics that a model with data.normalise = "running" takes: beyond 1e18.
[[nodiscard]] Status predict(const float* features, float* scores);

// Learns one sample: one step of SGD, as the last phase of the experiment's [adaptation]. kBadState: as `predict`, or a round of
// the host is in progress: try again after it. kBadValue: there is no such label, or as `predict`. kNotFinite: as `predict`. A
// refused sample changes nothing, but weights that have diverged stay so until `adapt` or the next round.
[[nodiscard]] Status learn(const float* features, int label);
// The same with kTargets numbers, for a model whose targets are no labels.
[[nodiscard]] Status learn(const float* features, const float* targets);

// Saves what the board has learned, for after a reset: its weights and statistics. Firmware with a store also does so by itself,
// after every `board.save_every` samples that it learns. Nothing is written that is saved already. kBadState: as `learn`; or the
// firmware has no store, or the flash does not take it. kNotFinite: the weights have diverged; those that are saved stay.
[[nodiscard]] Status save();

// How the board has done so far. `error` is that of its predictions before it learned the sample, of which older ones count
// less and less (each 1 % less than the next): the share of wrong labels, or the mean distance of values. `drifted`: the error
// has grown since (Page-Hinkley test), so the sensor or its world may have changed; `adapt` clears it.
struct Statistics {
  uint32_t learned;  // samples since the start; with a store, since its first save
  float error;
  bool drifted;
};
Statistics statistics();

// The label of the highest score; with one score, 1 where it is above 0.
int best(const float* scores);

// The probability that the model gives to that label, where labels exclude each other; 1 for a model whose targets are values.
float confidence(const float* scores);

// Forgets what the board has learned: returns to the weights of the federation, then adapts as the experiment's [adaptation]
// says. A board that makes its own samples does that in `poll`; for any other the next calls of `learn` bring the samples, in
// the order of its phases and passes. kBadState: as `learn`; or since the start only saved weights are there.
[[nodiscard]] Status adapt();

// Leaves a round that the host has begun and not finished, so that `learn` and `adapt` are possible. The host repeats the round.
void leave_round();

}  // namespace tmf
