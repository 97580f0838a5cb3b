// Checks of samples and inputs that come in parts: nothing but whole ones is used, and they are used as if they came at once.
#pragma once

#include <cstring>
#include <vector>

#include "kept_checks.hpp"

namespace {

#if HAS_PARTS

enum class Waits { kNothing, kSample, kInput, kOutputs };  // as in SampleParts

// What the device has of a sample or an input.
struct Parts {
  Waits waits;
  Dtype dtype;
  uint32_t taken, number;
  float scale;

  bool operator==(const Parts& other) const {
    return waits == other.waits && dtype == other.dtype && taken == other.taken && number == other.number &&
           bits_of<uint32_t>(scale) == bits_of<uint32_t>(other.scale);
  }
  uint32_t of_sample() const { return waits == Waits::kSample ? taken : 0; }
};

Parts parts_of(const Learner& learner) {
  const SampleParts& from = (const SampleParts&)learner;  // a private base
  return {static_cast<Waits>(from.*reveal(SampleParts_waiting_{})), from.*reveal(SampleParts_dtype_{}),
          from.*reveal(SampleParts_taken_{}), from.*reveal(SampleParts_number_{}), from.*reveal(SampleParts_scale_{})};
}

Bytes collected;  // of the sample or the input that waits

// Adds a part to what has come, of which the device had `had` bytes.
template <typename Part>
void collect(const Part& part, const Parts& was, uint32_t had) {
  check(had <= collected.size(), "I4", "the device has bytes that did not come");
  check(had == 0 || (part.dtype == was.dtype && bits_of<uint32_t>(part.scale) == bits_of<uint32_t>(was.scale)), "I4",
        "parts of another dtype or scale were put together");
  collected.resize(had);
  collected.insert(collected.end(), part.data, part.data + part.data_size);
}

void check_sample_part(const Bytes& request, const Bytes& answer) {
  SamplePart part;
  SampleTaken taken;
  check(parsed(request, part) && parsed(answer, taken), "I10", "a wrong SampleTaken");
  const Parts was = parts_of(before.view()), now = parts_of(learner());
  const uint32_t step = before.was(Learner_step_{}), size = sample_bytes(part.dtype);
  check(taken.token == is(Learner_token_{}) && taken.step == is(Learner_step_{}) && taken.state == is(Learner_state_{}) &&
            taken.position == taken.step * sample_bytes(now.dtype) + now.of_sample(),
        "I10", "SampleTaken does not report the device's state");
  if (before.was(Learner_state_{}) != State::kTraining || part.position != step * size + was.of_sample()) {
    check(before.unchanged() && now.waits == was.waits && now.taken == was.taken, "I4", "a part that came before was used");
    return;
  }
  collect(part, was, was.of_sample());
  check(collected.size() <= size, "I1", "more bytes than a sample has");
  if (collected.size() < size) {
    check(before.unchanged() && now == Parts{Waits::kSample, part.dtype, static_cast<uint32_t>(collected.size()), now.number, part.scale},
          "I4", "a part of a sample has changed more than what waits");
    return;
  }
  check(is(Learner_step_{}) == step + 1 && now.waits == Waits::kNothing, "I3", "a whole sample was not trained once");
  check_trained(collected.data(), now.dtype, now.scale);
  ++reached.steps;
}

void check_input_part(const Bytes& request, const Bytes& answer) {
  InputPart part;
  InputTaken taken;
  check(parsed(request, part) && parsed(answer, taken), "I10", "a wrong InputTaken");
  const Parts was = parts_of(before.view()), now = parts_of(learner());
  check(now.number == part.number && taken.position == now.taken, "I10", "InputTaken does not report what the device has");
  const bool is_same = (was.waits == Waits::kInput || was.waits == Waits::kOutputs) && was.number == part.number;
  if (is_same && part.position < was.taken) {
    check(now == was, "I4", "a part that came before was used");
  } else {
    collect(part, was, is_same ? was.taken : 0);
    check(now.taken == collected.size(), "I10", "an input's part is not as long as it was sent");
  }
  check((now.waits == Waits::kOutputs) == (now.taken == input_bytes(now.dtype)), "I3", "outputs of an input that is not whole");
  if (now.waits != Waits::kOutputs) {
    check(taken.data_size == 0, "I10", "outputs before the input is whole");
    return;
  }
  static float arena[model::kArenaFloats];
  copy_inputs(collected.data(), now.dtype, now.scale, arena + model::kInput);
  model::Model<float>::forward(learner().*reveal(Learner_parameters_{}), arena);
  check(taken.data_size == 4 * model::kOutputSize &&
            std::memcmp(taken.data, arena + model::kOutput, taken.data_size) == 0,
        "I10", "an input in parts has other outputs than a whole one");
}

bool drops_parts(uint8_t type) {
  return type == Sample::kType || type == Predict::kType || type == kSamplePart || type == kInputPart;
}

// What waits stays or is dropped as a whole, by an accepted message that needs the arena, or by a refused sample or input.
void check_parts(const Bytes& request, bool accepted) {
  if (accepted && (request[0] == kSamplePart || request[0] == kInputPart)) return;  // checked above
  const Parts was = parts_of(before.view()), now = parts_of(learner());
  if (now == was) return;
  const bool may = drops_parts(request[0]) || (accepted && (request[0] == Load::kType || request[0] == Train::kType ||
                                                            request[0] == Configure::kType));
  check(may && now.waits == Waits::kNothing && now.taken == 0, "I4", "a message has changed a sample that waits");
}

bool has_dropped_parts() {
  return parts_of(before.view()).waits != Waits::kNothing && parts_of(learner()).waits == Waits::kNothing;
}

uint32_t expected_position(const Bytes& request) {
  const Parts parts = parts_of(learner());
  if (request[0] == kInputPart) {
    InputPart part;
    const bool is_same = parsed(request, part) && (parts.waits == Waits::kInput || parts.waits == Waits::kOutputs) && parts.number == part.number;
    return is_same ? parts.taken : 0;
  }
  SamplePart part;
  check(parsed(request, part), "I10", "a malformed part has a position");
  return is(Learner_step_{}) * sample_bytes(part.dtype) + parts.of_sample();
}

#else

void check_sample_part(const Bytes&, const Bytes&) { violated("I10", "firmware that takes whole samples has taken a part"); }
void check_input_part(const Bytes&, const Bytes&) { violated("I10", "firmware that takes whole inputs has taken a part"); }
void check_parts(const Bytes&, bool) {}
bool has_dropped_parts() { return false; }
uint32_t expected_position(const Bytes&) { return 0; }

#endif

}  // namespace
