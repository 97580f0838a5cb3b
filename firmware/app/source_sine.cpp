// Sample source of the sine task: the device makes samples of its client's sine wave, y = a sin(f x + phase).
#include "math.hpp"
#include "model.hpp"
#include "prng.hpp"
#include "sine_waves.hpp"
#include "source.hpp"

namespace tmf::source {

static_assert(model::kInputSize == 1 && model::kTargetSize == 1 && model::kClassCount == 0,
              "a sine sample is one number in and one number out");

bool on_device() { return true; }

void make(const Key& key, float* input, float* target) {
  const Pair task = draw(key.seed, key.client, 0, protocol::Stream::kClientTask, 0);
  const float amplitude = kLowestAmplitude + kAmplitudeSpan * uniform(task.first);
  float phase = kPhaseSpan * uniform(task.second);
  if constexpr (kLowestPhase != 0.0f) phase += kLowestPhase;
  float frequency = kLowestFrequency;
  if constexpr (kFrequencySpan != 0.0f) {
    frequency += kFrequencySpan * uniform(draw(key.seed, key.client, 0, protocol::Stream::kClientTask, 1).first);
  }
  const auto stream = static_cast<protocol::Stream>(key.set);
  const float x = -5.0f + 10.0f * uniform(draw(key.seed, key.client, key.round, stream, key.index).first);
  input[0] = x;
  target[0] = amplitude * sin(frequency * x + phase);
}

}  // namespace tmf::source
