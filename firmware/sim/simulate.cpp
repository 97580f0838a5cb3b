// Simulates many clients in one process: does for each lane of a vector what Learner does for one client, and distributes
// groups of lanes over threads.
#include <cstring>

#include <augmentation.hpp>  // generated for firmware whose samples change
#include <authentication.hpp>
#include <averaging.hpp>  // generated for firmware that averages predictions
#include <private_update.hpp>  // generated for private updates
#include <sample_parts.hpp>  // generated for firmware that takes samples in parts
#include <secure_sum.hpp>  // generated for firmware with secure aggregation

#include "board.hpp"
#include "frame.hpp"
#include "lane_samples.hpp"
#include "lanes.hpp"
#include "level_bytes.hpp"
#include "model.hpp"
#include "simulation_abi.hpp"
#include "single/runs.hpp"
#include "source.hpp"
#include "step.hpp"
#include "threads.hpp"
#include "update.hpp"

namespace tmf::sim {

using protocol::Dtype;

constexpr size_t kMacBytes = Authentication::kMacBytes;  // their values are not computed: only sizes count
constexpr uint32_t kLocalCount = model::kParameterCount - model::kGlobalCount;

// Vectorised, which -O2 alone does not do.
#pragma GCC push_options
#pragma GCC optimize("vect-cost-model=dynamic")
inline bool are_finite(const float* numbers, uint32_t count) {
  uint32_t others = 0;
  for (uint32_t i = 0; i < count; ++i) others += magnitude_bits(numbers[i]) >= kInfiniteMagnitude;
  return others == 0;
}
#pragma GCC pop_options

// Working memory of one thread.
template <typename T>
struct Workspace {
  alignas(64) T weights[model::kStateCount];  // [i][lane]
  alignas(64) T arena[model::kArenaFloats];
  HeldSamples<T> held;
  alignas(64) float changes[Lanes<T>::kCount][(model::kGlobalCount + 15) / 16 * 16];  // of each client's global weights
  Update<model::kGlobalCount, board::kReceiveWindow, kMacBytes> update;  // of one client
  float one[model::kParameterCount];  // weights of one client
  float input[augmentation::kAugments || Averaging::kAverages ? model::kInputSize : 1];  // of one client
  T sums[Averaging::kAverages ? model::kOutputSize : 1];
};

// Clients first, first + 1, ... in the lanes of T. Lanes after the last client repeat it; their results are not used.
template <typename T>
class Group {
 public:
  using Model = model::Model<T>;

  Group(const Training& training, const protocol::Recipe& recipe, uint32_t first, Workspace<T>& memory)
      : training_(training),
        recipe_(recipe),
        first_(first),
        size_(training.client_count - first < Lanes<T>::kCount ? training.client_count - first : Lanes<T>::kCount),
        memory_(memory) {
    const RunClients* run = training.runs;
    uint32_t end = run->client_count;  // of the run's clients
    for (uint32_t lane = 0; lane < Lanes<T>::kCount; ++lane) {
      while (client(lane) >= end) end += (++run)->client_count;
      runs_[lane] = run;
    }
  }

  // Sets the weights of every lane to the start of a round.
  void load() {
    const float* const first = runs_[0]->global_weights;
    if constexpr (Lanes<T>::kCount == 1) {
      std::memcpy(memory_.weights, first, sizeof(float) * model::kGlobalCount);
    } else if (runs_[Lanes<T>::kCount - 1] == runs_[0]) {
      for (uint32_t i = 0; i < model::kGlobalCount; ++i) memory_.weights[i] = in_every_lane<T>(first[i]);
    } else {
      for (uint32_t i = 0; i < model::kGlobalCount; ++i)
        for (uint32_t lane = 0; lane < Lanes<T>::kCount; ++lane)
          Lanes<T>::put(memory_.weights + i, lane, runs_[lane]->global_weights[i]);
    }
    Model::start_local(memory_.weights);
    for (uint32_t i = model::kParameterCount; i < model::kStateCount; ++i) memory_.weights[i] = T{};  // velocities or gradients
  }

  // Sets all weights of every lane; `weights` is [client, weight].
  void load_all(const float* weights) {
    for (uint32_t lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const float* const from = weights + size_t{client(lane)} * model::kParameterCount;
      for (uint32_t i = 0; i < model::kParameterCount; ++i) Lanes<T>::put(memory_.weights + i, lane, from[i]);
    }
  }

  // Sets local weights that do not start from the fixed values: random ones, or those of the client's last round.
  void start_locals() {
    for (uint32_t lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const float* start = memory_.one + model::kGlobalCount;
      if (training_.local_weights != nullptr) {
        start = training_.local_weights + size_t{client(lane)} * kLocalCount;
      } else {
        redraw_local(memory_.one, key(lane));
      }
      for (uint32_t i = 0; i != kLocalCount; ++i) Lanes<T>::put(memory_.weights + model::kGlobalCount + i, lane, start[i]);
    }
  }

  // Sets the local weights that each client's training starts from.
  void begin_training() {
    if (model::kRedrawsLocal || training_.local_weights != nullptr) start_locals();
  }

  // Trains the recipe's phases and sets each client's status.
  void train() {
    uint32_t number = 0;  // of the step
    for (uint32_t n = 0; n < phase_count(); ++n) {
      const protocol::Phase& phase = recipe_.phases[n];
      const LaneSamples<T> samples = of_lanes(training_.samples[n], phase.count);
      const T rate = in_every_lane<T>(phase.learning_rate), clamp = in_every_lane<T>(phase.output_clamp);
      const uint32_t steps = uint32_t{phase.count} * phase.passes;
      const bool held = phase.count <= HeldSamples<T>::kMostRows;
      for (uint32_t row = 0; held && row < phase.count; ++row) {
        set_sample(samples, row);
        memory_.held.hold(row, memory_.arena);
      }
      for (uint32_t step = 0, row = 0; step < steps; ++step, ++number, row = row + 1 < phase.count ? row + 1 : 0) {
        if (held) memory_.held.restore(row, memory_.arena);
        else set_sample(samples, row);
        if constexpr (augmentation::kAugments) {
          if (augmentation::applies(phase.sample_set))
            change_inputs([&](float* input, uint32_t lane) { augmentation::change(input, key(lane), number); });
        }
        train_step(phase.variant, memory_.weights, memory_.arena, rate, clamp);
      }
    }
    apply_mean_gradient(memory_.weights, recipe_.phases, protocol::kMaxPhases);
    set_statuses();
  }

  // Writes the model's outputs for each client's test samples, [client, row, output].
  void predict(const Evaluation& test, float* outputs) {
    const LaneSamples<T> samples = of_lanes(test.samples, test.rows);
    for (uint32_t row = 0; row < test.rows; ++row) {
      if constexpr (Averaging::kAverages) {
        predict_mean(samples, row);
      } else {
        samples.copy_input(row, memory_.arena + model::kInput);
        Model::forward(memory_.weights, memory_.arena);
      }
      for (uint32_t lane = 0; lane < size_; ++lane) {
        float* output = outputs + (size_t{first_ + lane} * test.rows + row) * model::kOutputSize;
        for (uint32_t i = 0; i < model::kOutputSize; ++i) output[i] = Lanes<T>::get(memory_.arena + model::kOutput + i, lane);
      }
    }
  }

  // Writes each client's weights, [client, weight].
  void copy_weights(float* weights) const {
    for (uint32_t lane = 0; lane < size_; ++lane) {
      float* const end = weights + size_t{first_ + lane} * model::kParameterCount;
      for (uint32_t i = 0; i < model::kParameterCount; ++i) end[i] = Lanes<T>::get(memory_.weights + i, lane);
    }
  }

  // Selects and rounds the delta of every client as the firmware does, and counts its bytes on the wire.
  void send(const Updates& updates) {
    find_changes();
    for (uint32_t lane = 0; lane < size_; ++lane) {
      uint8_t& fault = training_.statuses[first_ + lane];
      if (fault != static_cast<uint8_t>(Status::kOk)) continue;
      float* const residual =
          updates.residuals == nullptr ? nullptr : updates.residuals + size_t{first_ + lane} * model::kGlobalCount;
      float* const change = memory_.update.change = memory_.changes[lane];
      if (residual != nullptr)
        for (uint32_t i = 0; i < model::kGlobalCount; ++i) change[i] += residual[i];
      fault = static_cast<uint8_t>(send_one(updates, lane, residual));
      if (fault == static_cast<uint8_t>(Status::kOk) && training_.local_weights != nullptr) keep_local(lane);
      if (updates.sample_bytes != nullptr) updates.sample_bytes[first_ + lane] = streamed_bytes(first_ + lane);
    }
  }

 private:
  uint32_t phase_count() const {
    uint32_t count = 0;
    while (count < protocol::kMaxPhases && recipe_.phases[count].passes > 0) ++count;
    return count;
  }

  void set_statuses() {
    if constexpr (Lanes<T>::kCount == 1) {
      set_status(0, are_finite(memory_.weights, model::kStateCount));
      return;
    }
    // A weight that is not finite times 0 is NaN, and so is every sum with it.
    constexpr uint32_t kSums = 4;  // an addition takes several cycles
    T sums[kSums]{};
    uint32_t i = 0;
    for (; i + kSums <= model::kStateCount; i += kSums) {
#pragma GCC unroll 4
      for (uint32_t n = 0; n < kSums; ++n) sums[n] += memory_.weights[i + n] * T{};
    }
    for (; i < model::kStateCount; ++i) sums[0] += memory_.weights[i] * T{};
    const T sum = sums[0] + sums[1] + (sums[2] + sums[3]);
    for (uint32_t lane = 0; lane < size_; ++lane) set_status(lane, is_finite(Lanes<T>::get(&sum, lane)));
  }
  void set_status(uint32_t lane, bool finite) {
    training_.statuses[first_ + lane] = static_cast<uint8_t>(finite ? Status::kOk : Status::kNotFinite);
  }

  uint32_t client(uint32_t lane) const { return first_ + (lane < size_ ? lane : size_ - 1); }

  // Of the random numbers of a lane's client in its round.
  Key key(uint32_t lane) const { return {runs_[lane]->seed, training_.clients[client(lane)], runs_[lane]->round}; }

  void keep_local(uint32_t lane) {
    float* const end = training_.local_weights + size_t{first_ + lane} * kLocalCount;
    for (uint32_t i = 0; i != kLocalCount; ++i) end[i] = Lanes<T>::get(memory_.weights + model::kGlobalCount + i, lane);
  }

  LaneSamples<T> of_lanes(const Samples& samples, uint32_t rows) const {
    return {samples, rows, [this](uint32_t lane) { return client(lane); }};
  }

  // Copies a sample into the arena: before every step, as kernels may overwrite their input.
  void set_sample(const LaneSamples<T>& samples, uint32_t row) {
    samples.copy_input(row, memory_.arena + model::kInput);
    samples.copy_targets(row, memory_.arena + model::kTarget);
  }

  // Changes the input of every lane, which `change` gets as floats that follow each other.
  template <typename Change>
  void change_inputs(const Change& change) {
    T* const place = memory_.arena + model::kInput;
    for (uint32_t lane = 0; lane < Lanes<T>::kCount; ++lane) {
      for (uint32_t i = 0; i < model::kInputSize; ++i) memory_.input[i] = Lanes<T>::get(place + i, lane);
      change(memory_.input, lane);
      for (uint32_t i = 0; i < model::kInputSize; ++i) Lanes<T>::put(place + i, lane, memory_.input[i]);
    }
  }

  // Leaves the mean outputs of all views of a row in the arena.
  void predict_mean(const LaneSamples<T>& samples, uint32_t row) {
    for (uint32_t view = 0; view < Averaging::kViews; ++view) {
      samples.copy_input(row, memory_.arena + model::kInput);
      change_inputs([&](float* input, uint32_t) { Averaging::move(input, view); });
      Model::forward(memory_.weights, memory_.arena);
      for (uint32_t i = 0; i < model::kOutputSize; ++i) {
        const T output = memory_.arena[model::kOutput + i];
        memory_.sums[i] = view == 0 ? output : memory_.sums[i] + output;
      }
    }
    const T views = in_every_lane<T>(static_cast<float>(Averaging::kViews));
    for (uint32_t i = 0; i < model::kOutputSize; ++i) memory_.arena[model::kOutput + i] = memory_.sums[i] / views;
  }

  // Writes the change of every client's global weights.
  void find_changes() {
    constexpr uint32_t kRun = Lanes<T>::kCount, kInSquares = kRun > 1 ? model::kGlobalCount / kRun * kRun : 0;
    if constexpr (kRun > 1) {
      for (uint32_t i = 0; i < kInSquares; i += kRun) {  // a square: a weight in each row, a client in each column
        T square[kRun];
        for (uint32_t n = 0; n < kRun; ++n) square[n] = memory_.weights[i + n];
        single::transpose<kRun>(square);
        for (uint32_t lane = 0; lane < kRun; ++lane) {
          T start;
          std::memcpy(&start, runs_[lane]->global_weights + i, sizeof start);
          const T change = square[lane] - start;
          std::memcpy(memory_.changes[lane] + i, &change, sizeof change);
        }
      }
    }
    for (uint32_t i = kInSquares; i < model::kGlobalCount; ++i)
      for (uint32_t lane = 0; lane < kRun; ++lane)
        memory_.changes[lane][i] = Lanes<T>::get(memory_.weights + i, lane) - runs_[lane]->global_weights[i];
  }

  Status send_one(const Updates& updates, uint32_t lane, float* residual) {
    auto& update = memory_.update;
    const uint32_t client = first_ + lane;
    const auto change = [&update](uint32_t i) { return update.change[i]; };
    const size_t first = size_t{client} * recipe_.top_k;
    PrivateUpdate noise;
    const Key selection = SecureSum::selection_key(PrivateUpdate::selection_key(key(lane)));
    Status status = update.select(model::kLayerEnds, recipe_, selection);
    if (status == Status::kOk) status = noise.draw(update, change, key(lane));
    if (status == Status::kOk) status = update.take(noise.noised(change), recipe_);
    if (status == Status::kOk) status = update.decode(updates.indices + first, updates.values + first);
    if (status == Status::kOk) status = update.measure(updates.messages[client], updates.message_bytes[client]);
    if (status == Status::kOk && residual != nullptr) update.unsent(updates.values + first, residual);
    return status;
  }

  // Bytes on the wire of a client's samples, each as often as it is sent: in one message if it fits, else in parts.
  uint32_t streamed_bytes(uint32_t client) const {
    uint8_t sample[sizeof(float) * (model::kTargetSize + model::kInputSize)];
    uint32_t bytes = 0;
    for (uint32_t n = 0; n < phase_count(); ++n) {
      const protocol::Phase& phase = recipe_.phases[n];
      const Samples& samples = training_.samples[n];
      const Dtype dtype = samples.levels != nullptr ? Dtype::kU8 : Dtype::kF32;
      for (uint32_t row = 0; row < phase.count; ++row) {
        const size_t number = size_t{client} * phase.count + row, at = number * model::kInputSize;
        const void* const input =
            dtype == Dtype::kU8 ? static_cast<const void*>(samples.levels + at) : samples.inputs + at;
        Writer out(sample, sizeof sample);
        for (uint32_t i = 0; i < model::kTargetSize; ++i) out.f32(samples.targets[number * model::kTargetSize + i]);
        out.bytes(static_cast<const uint8_t*>(input), protocol::width(dtype) * model::kInputSize);
        const auto size = static_cast<uint32_t>(out.size());
        bytes += samples.passes_sent * sample_bytes(sample, size, row, dtype, samples.scale);
      }
    }
    return bytes;
  }

  // Bytes on the wire of one sample of `size` bytes, as that of step `step`.
  static uint32_t sample_bytes(const uint8_t* sample, uint32_t size, uint32_t step, Dtype dtype, float scale) {
    constexpr size_t kMost = payload_capacity(board::kReceiveWindow) - kMacBytes - protocol::Sample::kFixedSize;
    constexpr size_t kHead = protocol::Sample::kFixedSize > SampleParts::kHeadBytes ? protocol::Sample::kFixedSize : SampleParts::kHeadBytes;
    uint8_t frame[protocol::kFrameHeaderBytes + kHead + sizeof(float) * (model::kTargetSize + model::kInputSize) + kMacBytes];
    const bool in_parts = SampleParts::kTakesParts && size > kMost;
    const uint32_t each = in_parts ? SampleParts::kPartBytes : size;
    uint32_t bytes = 0;
    for (uint32_t at = 0; at < size; at += each) {
      Writer out(frame + protocol::kFrameHeaderBytes, sizeof frame - protocol::kFrameHeaderBytes);
      if (in_parts) {
        SampleParts::write_head(out, step * size + at, dtype, scale);
      } else {
        protocol::Sample header;
        header.token = header.step = step;
        header.dtype = dtype;
        header.scale = scale;
        header.write_head(out);
      }
      out.bytes(sample + at, size - at < each ? size - at : each);
      frame[0] = frame[1] = 1;
      const size_t length = protocol::kFrameHeaderBytes + out.size();
      std::memset(frame + length, 1, kMacBytes);
      bytes += wire_bytes(frame, length + kMacBytes);
    }
    return bytes;
  }

  const Training& training_;
  const protocol::Recipe& recipe_;
  const uint32_t first_;
  const uint32_t size_;
  Workspace<T>& memory_;
  const RunClients* runs_[Lanes<T>::kCount];  // of each lane
};

// One thread's workspaces, allocated at first use: one for vectors, one for a single client.
struct Worker {
  Workspace<Floats>* lanes;
  Workspace<float>* single;

  template <typename T>
  Workspace<T>& workspace() {
    auto& place = own<T>();
    if (place == nullptr) place = new Workspace<T>;
    return *place;
  }

 private:
  template <typename T>
  Workspace<T>*& own() {
    if constexpr (Lanes<T>::kCount == 1 && kLanes > 1) return single;
    else return lanes;
  }
};

// Kept between calls: a workspace may take megabytes, which the operating system would have to clear at each allocation.
Worker workers[kMostThreads];

// The clients [from, until).
template <typename T, typename Part>
void run_groups(const Training& training, uint32_t from, uint32_t until, const Part& part) {
  const uint32_t groups = (until - from + Lanes<T>::kCount - 1) / Lanes<T>::kCount;
  const uint32_t most = training.threads < kMostThreads ? training.threads : kMostThreads;
  protocol::Recipe recipe;
  Reader in(training.recipe, protocol::Recipe::kFixedSize);
  recipe.read(in);
  uint32_t next = 0;  // the group that is taken next, by whichever thread is free
  on_threads(most < groups ? most : groups, [&](uint32_t thread) {
    for (uint32_t group; (group = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < groups;) {
      Group<T> clients(training, recipe, from + group * Lanes<T>::kCount, workers[thread].template workspace<T>());
      part(clients);
    }
  });
}

// Few clients that would leave most lanes empty are trained one after the other: the sums of each fill the lanes then.
template <typename Part>
void run(const Training& training, const Part& part) {
  const uint32_t count = training.client_count, rest = count % kLanes;
  const uint32_t in_lanes = training.lanes <= 1 ? 0 : rest <= kLanes / 4 ? count - rest : count;
  if (in_lanes > 0) run_groups<Floats>(training, 0, in_lanes, part);
  if (in_lanes < count) run_groups<float>(training, in_lanes, count, part);
}

// Adds the updates of a call to their total, in client order: a sum of floats depends on its order. An entry that was not sent
// would add a zero to a total that is never -0, which changes no bit.
void add(const Training& training, const Updates& updates) {
  protocol::Recipe recipe;
  Reader in(training.recipe, protocol::Recipe::kFixedSize);
  recipe.read(in);
  const size_t top_k = recipe.top_k;
  for (size_t client = 0; client < training.client_count; ++client) {
    if (training.statuses[client] != static_cast<uint8_t>(Status::kOk)) continue;
    for (size_t at = client * top_k; at < (client + 1) * top_k; ++at) updates.total[updates.indices[at]] += updates.values[at];
  }
}

}  // namespace tmf::sim

// --- The library's functions; they must not be called by several threads at the same time ---

using namespace tmf;  // NOLINT: the exported functions are outside of any namespace

uint64_t simulation_abi_hash() { return sim::kAbiHash; }

// Uses one thread, as a user's sample source need not be safe for several.
void make_samples(const sim::OwnSamples& made) {
  float *inputs = made.inputs, *targets = made.targets;
  const protocol::SampleSet set = static_cast<protocol::SampleSet>(made.sample_set);
  for (uint32_t n = 0; n < made.client_count; ++n)
    for (uint32_t i = 0; i < made.rows; ++i, inputs += model::kInputSize, targets += model::kTargetSize)
      source::make({made.seed, made.clients[n], {made.round}, set, i}, inputs, targets);
}

void measure_load(const sim::LoadedLevels& load) {
  sim::measure_levels<LevelLoad, board::kReceiveWindow, sim::kMacBytes>(load.levels, load.scales, load.sent);
}

void train_round(const sim::Training& training, const sim::Updates& updates) {
  sim::run(training, [&](auto& group) {
    group.load();
    group.begin_training();
    group.train();
    group.send(updates);
  });
  if (updates.total != nullptr) sim::add(training, updates);
}

void adapt(const sim::Training& training, const sim::Evaluation& test) {
  sim::run(training, [&](auto& group) {
    group.load();
    if (test.start != nullptr) group.load_all(test.start);
    group.predict(test, test.before);
    if (test.start == nullptr) group.begin_training();
    group.train();
    group.predict(test, test.after);
    if (test.weights != nullptr) group.copy_weights(test.weights);
  });
}
