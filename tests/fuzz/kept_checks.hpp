// Checks that a step trains the sample that was sent for it, be it in this pass or in an earlier one; keeps an account of its own of
// what the device has kept.
#pragma once

#include <cstring>
#include <vector>

#include "device_state.hpp"
#include "step.hpp"

namespace {

void copy_numbers(const uint8_t* from, float* to, size_t count) { std::memcpy(to, from, sizeof(float) * count); }

void copy_inputs(const uint8_t* from, Dtype dtype, float scale, float* to) {
  if (dtype == Dtype::kF32) return copy_numbers(from, to, model::kInputSize);
  for (uint32_t i = 0; i < model::kInputSize; ++i) to[i] = static_cast<float>(from[i]) * scale;
}

// Where a step is in its program.
struct Place {
  uint32_t phase, index;  // the phase's number, and that of the sample in its set
};

Place place_of(const Recipe& recipe, uint32_t step) {
  uint32_t number = 0;
  for (; step >= uint32_t{recipe.phases[number].count} * recipe.phases[number].passes; ++number)
    step -= uint32_t{recipe.phases[number].count} * recipe.phases[number].passes;
  return {number, step % recipe.phases[number].count};
}

// The step that the device has just taken must be that of a whole sample, given as it is sent.
void check_trained(const uint8_t* data, Dtype dtype, float scale) {
  static float weights[model::kStateCount];
  alignas(16) static float arena[model::kArenaFloats];
  std::memcpy(weights, before.view().*reveal(Learner_parameters_{}), sizeof weights);
  copy_numbers(data, arena + model::kTarget, model::kTargetSize);
  copy_inputs(data + 4 * model::kTargetSize, dtype, scale, arena + model::kInput);
  const Recipe& recipe = *before.was(Learner_recipe_{});
  const Phase& phase = recipe.phases[place_of(recipe, before.was(Learner_step_{})).phase];
  train_step(phase.variant, weights, arena, phase.learning_rate, phase.output_clamp);
  check(std::memcmp(weights, learner().*reveal(Learner_parameters_{}), sizeof weights) == 0, "I3",
        "a step has trained other weights than its sample does");
}

// The samples of the set that is trained, as they came in its first pass. A device has kept all of them, or is sent them again.
struct KeptSet {
  uint32_t phase = 0;
  float scale = 0.0f;
  std::vector<Bytes> samples;

  // A program has begun.
  void begin() { *this = KeptSet(); }

  // Goes on to the phase of a step: samples stay where it has as many of the same set.
  void go_to(const Recipe& recipe, const Place& place) {
    for (; phase < place.phase; ++phase) {
      const Phase &last = recipe.phases[phase], &next = recipe.phases[phase + 1];
      if (last.sample_set != next.sample_set || last.count != next.count) samples.clear();
    }
  }

  // A sample has come and was trained as step `number` of its program.
  void add(const Recipe& recipe, const Sample& sample) {
    const Place place = place_of(recipe, sample.step);
    go_to(recipe, place);
    if (recipe.phases[place.phase].count > KeptSamples::kMost || sample.dtype != KeptSamples::kDtype) return;
    if (place.index != samples.size()) return;
    if (!samples.empty() && bits_of<uint32_t>(scale) != bits_of<uint32_t>(sample.scale)) return;
    samples.emplace_back(sample.data, sample.data + sample.data_size);
    scale = sample.scale;
  }

  // Whether the device can take this step by itself.
  bool has_all(const Recipe& recipe, uint32_t step) {
    const Place place = place_of(recipe, step);
    go_to(recipe, place);
    return samples.size() == recipe.phases[place.phase].count;
  }
};
KeptSet kept_set;

}  // namespace
