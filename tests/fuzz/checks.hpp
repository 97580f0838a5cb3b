// One piece of the line at a time, and the checks of the protocol's invariants after it.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "part_checks.hpp"
#include "source.hpp"

namespace {

// --- The entries pulled of the current delta, by rank ---

std::vector<Entry> frozen;
std::vector<bool> pulled;

void forget_frozen() {
  frozen.assign(kGlobal, Entry{});
  pulled.assign(kGlobal, false);
}

// --- One piece of the line at a time, and the checks after it ---

struct Reply {
  bool present = false;
  Bytes body;
};

// The answer since the last call, if any; there is at most one.
Reply reply() {
  Reply found;
  if (answered.empty()) return found;
  check(answered.back() == 0 && std::count(answered.begin(), answered.end(), 0) == 1, "I10",
        "a request has more than one answer, or half an answer");
  check(answered.size() <= kWindow, "I6", "an answer is longer than the receive window");
  found.body = unframed(answered.data(), answered.size() - 1, kWindow);
  check(!found.body.empty(), "I6", "an answer is not a valid frame");
  found.present = true;
  answered.clear();
  return found;
}

void check_progress(const Bytes& answer) {
  Progress progress;
  check(parsed(answer, progress), "I10", "a Progress of the wrong length");
  check(progress.token == is(Learner_token_{}) && progress.step == is(Learner_step_{}) &&
            progress.state == is(Learner_state_{}),
        "I10", "Progress does not report the device's state");
}

uint32_t program_steps() {
  uint32_t steps = 0;
  for (const Phase& phase : is(Learner_recipe_{})->phases) {
    if (phase.passes == 0) break;
    steps += static_cast<uint32_t>(phase.count) * phase.passes;
  }
  return steps;
}

#if HAS_STORE

SavedState& learner_store() { return *reinterpret_cast<SavedState*>(&learner()); }  // its base

// What the firmware would find in its flash after a reset.
auto reopened() {
  std::remove_reference_t<decltype(learner_store().*reveal(SavedState_log_{}))> log;
  log.open(model::kModelHash);
  return log;
}

constexpr uint32_t kNamesAt = kParameters + sizeof own_statistics / 4;
constexpr uint32_t kKept = kNamesAt + store::kNameBytes / 4;  // numbers of a record of weights

void check_contents(const Bytes& answer) {
  Contents contents;
  check(parsed(answer, contents), "I10", "wrong Contents");
  auto saved = reopened();
  check(static_cast<int>(contents.state) == static_cast<int>((learner_store().*reveal(SavedState_log_{})).condition()), "I10",
        "Contents do not report the store");
  const size_t named = contents.names_size;
  check(named == (saved.has_record(saved.weights(), kKept) ? store::kNameBytes : 0), "I10", "names of another length");
  for (size_t i = 0; i < named; i += 4) {
    uint32_t word;
    std::memcpy(&word, contents.names + i, sizeof word);
    check(word == bits_of<uint32_t>(saved.number_at(saved.weights(), kNamesAt + static_cast<uint32_t>(i) / 4)), "I10",
          "other names than are saved");
  }
}

Outcome store_messages(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
  return learner().store(type, payload, size, out);
}

void check_store(const Bytes& request, const Bytes& answer) {
  StoreReport report;
  check(parsed(answer, report), "I10", "a wrong StoreReport");
  check(before.unchanged_but_for_the_store(), "I4", "a message about the store has changed more than the store");
  auto& log = learner_store().*reveal(SavedState_log_{});
  check(static_cast<int>(report.state) == static_cast<int>(log.condition()) && report.saves == log.saves() &&
            report.erases == log.erases() && report.weights == (log.weights() != log.kNowhere),
        "I10", "StoreReport does not report the store");
  if (request[0] == kRecall) {
    Recall recall;
    check(parsed(request, recall) && learner_store().*reveal(SavedState_run_{}) == recall.run, "I10", "another run than was named");
    check(before.writes == flash_writes, "I4", "Recall has written flash");
    return;
  }
  const size_t named = request.size() - kFrameHeaderBytes;
  check((named == 0 || named == store::kNameBytes) && report.state == StoreState::kReady, "I10", "Keep has not saved the weights");
  auto saved = reopened();
  check(saved.has_record(saved.weights(), kKept), "I10", "weights that were kept are lost by a reset");
  if (named > 0) {
    uint8_t names[store::kNameBytes];
    check(saved.read_numbers(saved.weights(), kNamesAt, names, named) == Status::kOk &&
              std::memcmp(names, request.data() + kFrameHeaderBytes, named) == 0,
          "I10", "other names were kept than were given");
  }
  for (uint32_t i = 0; i < kParameters; ++i) {
    const float weight = saved.number_at(saved.weights(), i);
    check(is_finite(weight), "I5", "a weight that is not finite was kept");
    check(bits_of<uint32_t>(weight) == bits_of<uint32_t>((learner().*reveal(Learner_parameters_{}))[i]), "I10",
          "other weights were kept than the device has");
  }
}

void note_run() {
  if (before.was(Learner_state_{}) == State::kLoaded) trained_run = learner_store().*reveal(SavedState_run_{});
}

// After a write: a reset finds the records that the firmware has noted.
void check_flash() {
  if (before.writes == flash_writes) return;
  auto& log = learner_store().*reveal(SavedState_log_{});
  auto found = reopened();
  check(found.condition() == log.condition() && found.saves() == log.saves() && found.weights() == log.weights() &&
            found.newest_round() == log.newest_round(),
        "I10", "a reset would find other records than were saved");
  if (is(Learner_state_{}) == State::kDone && before.was(Learner_state_{}) != State::kDone)
    check(found.tag_at(found.newest_round()).run == trained_run, "I12", "a state was saved under a run that did not train it");
}

#else

void check_store(const Bytes&, const Bytes&) { violated("I10", "firmware without a store has answered its messages"); }
void check_contents(const Bytes&) { violated("I10", "firmware without a store has answered its messages"); }
void note_run() {}
void check_flash() {}

#endif

// Checks that hold after any piece and any training step.
void check_always() {
  check_flash();
  const State state = is(Learner_state_{});
  ++reached.state[static_cast<int>(state)];
  check(is(Learner_loaded_{}) <= kGlobal, "I1", "more weights were loaded than there are");
  if (is(Learner_has_session_{}) == before.was(Learner_has_session_{}) &&
      is(Learner_session_{}) == before.was(Learner_session_{}) && before.was(Learner_has_token_{})) {
    check(is(Learner_has_token_{}) && is(Learner_token_{}) >= before.was(Learner_token_{}), "I8",
          "a token went back within a session");
    if (is(Learner_token_{}) == before.was(Learner_token_{})) {
      check(is(Learner_step_{}) >= before.was(Learner_step_{}), "I3", "steps went back within a cycle");
      check(state >= before.was(Learner_state_{}), "I8", "a state went back within a cycle");
    }
  }
  if (!before.same(Learner_kept_local_{}) || !before.same(Learner_residual_{})) {
    const bool forgot = !before.same(Learner_session_{}) || !before.was(Learner_has_session_{});
    const bool cycle_ended = before.was(Learner_state_{}) == State::kDone && before.was(Learner_delta_{}).count() > 0 &&
                         state != State::kDone && is(Learner_token_{}) != before.was(Learner_token_{});
    // A Train sets both to what the store has.
    const bool recalled = HAS_STORE && before.was(Learner_state_{}) == State::kLoaded && state > State::kLoaded;
    check(forgot || cycle_ended || recalled, "I12", "local weights or residual kept for the next round have changed within a cycle");
  }
  if (!is(Learner_has_token_{})) return;
  if (state == State::kFailed && before.was(Learner_state_{}) != State::kFailed)
    ++reached.fault[static_cast<int>(is(Learner_fault_{}))];
  if (state == State::kTraining) check(is(Learner_step_{}) < program_steps(), "I3", "a finished program still trains");
  if (state == State::kDone && before.was(Learner_state_{}) != State::kDone) {  // once done, the recipe may be replaced
    check(is(Learner_step_{}) == program_steps(), "I3", "more or fewer steps than the program has");
    check(is(Learner_delta_{}).count() == is(Learner_recipe_{})->top_k, "I7", "the delta is not this cycle's");
  }
  const bool weights_new = !before.same(Learner_parameters_{}) || state != before.was(Learner_state_{});
  if (weights_new && (state == State::kLoaded || state == State::kDone)) {
    const auto& weights = learner().*reveal(Learner_parameters_{});
    for (const float weight : weights) check(is_finite(weight), "I5", "a weight is not finite");
  }
}

void check_loaded(const Load& load, const LoadAnswer& answer) {
  check(answer.next_offset == is(Learner_loaded_{}), "I10", "LoadAnswer does not report the device's state");
  if (before.same(Learner_parameters_{}) && before.same(Learner_loaded_{}) && before.same(Learner_token_{})) return;
  const bool begins = !before.was(Learner_has_token_{}) || load.token > before.was(Learner_token_{});
  check(is(Learner_token_{}) == load.token, "I4", "a Load of another cycle wrote weights");
  check(begins ? load.offset == 0
               : before.was(Learner_state_{}) == State::kLoading && load.offset == before.was(Learner_loaded_{}),
        "I4", "a Load out of order wrote weights");
  check(load.dtype == model::kDownlink, "I4", "a Load of another dtype wrote weights");
  const uint32_t end = load.offset + static_cast<uint32_t>(load.data_size / kWidth);
  check(end <= end_of_load(load.offset), "I4", "a Load crossed the end of a tensor with a scale of its own");
  const auto& weights = learner().*reveal(Learner_parameters_{});
  const auto& received = learner().*reveal(Learner_received_{});
  const auto& earlier = before.view().*reveal(Learner_parameters_{});
  const auto& earlier_received = before.view().*reveal(Learner_received_{});
  Reader in(load.data, load.data_size);
  for (uint32_t i = 0; i < kGlobal; ++i) {
    const bool written = i >= load.offset && i < end;
    const float sent = !written      ? 0.0f
                       : kWidth == 4 ? in.f32()
                       : kWidth == 2 ? from_f16(in.u16())
                                     : static_cast<float>(static_cast<int8_t>(in.u8())) * load.scale;
    check(!written || is_finite(sent), "I5", "a Load wrote a weight that is not finite");
    check(bits_of<uint32_t>(weights[i]) == bits_of<uint32_t>(written ? sent : earlier[i]), "I4",
          "a weight is not the one that was sent");
    // Later weights of a new cycle have not been received yet.
    if (i < end)
      check(bits_of<uint32_t>(received[i]) == bits_of<uint32_t>(written ? sent : earlier_received[i]), "I4",
            "a received weight is not the one that was sent");
  }
  forget_frozen();
}

#if HAS_PRIVACY

const PrivateUpdate& private_update() { return (const PrivateUpdate&)learner(); }  // a private base

// An entry of a private update: the integer that the board has drawn, as it is. Without the noise, all entries keep the bound.
void check_private(const Delta& delta, const Entry& entry, float change) {
  PrivateUpdate twin = private_update();
  check(delta.dtype == privacy::kUplink, "I7", "a private update in another dtype");
  const float value = static_cast<float>(twin.level(change, entry.index)) * privacy::kStep;
  check(delta.dtype == Dtype::kI8 ? delta.scale == privacy::kStep && static_cast<int8_t>(entry.bits) * privacy::kStep == value
                                  : sent_right(value, delta, entry.bits),
        "I7", "an entry is not the one that was drawn");
}

// The changes of all entries, rounded as they were before the noise.
template <typename Change>
void check_bound(Change change_of) {
  uint64_t squares = 0;
  is(Learner_delta_{}).selected([&](uint32_t i) {
    const int64_t steps = (private_update().*reveal(PrivateUpdate_rounded{}))(change_of(i), i);
    squares += static_cast<uint64_t>(steps * steps);
  });
  check(squares <= privacy::kLargestSquare, "I7", "an update is longer than the bound that the noise was computed for");
}

#else

void check_private(const Delta&, const Entry&, float) {}
template <typename Change>
void check_bound(Change) {}

#endif

void check_pulled(const Pull& pull, const Bytes& answer) {
  Delta delta;
  check(parsed(answer, delta), "I10", "a Delta of the wrong length");
  check(delta.token == pull.token && delta.token == is(Learner_token_{}) && delta.rank == pull.rank, "I7",
        "a Delta of another cycle or rank");
  const uint32_t k = is(Learner_delta_{}).count();
  check(delta.count <= k - delta.rank, "I9", "more entries than were selected");
  const auto& weights = learner().*reveal(Learner_parameters_{});
  const auto& received = learner().*reveal(Learner_received_{});
  const auto& residual = learner().*reveal(Learner_residual_{});
  const auto change_of = [&](uint32_t i) { return residual.add_to(i, weights[i] - received[i]); };
  check_bound(change_of);
  uint32_t rank = delta.rank;
  for (const Entry& entry : decoded(delta, kGlobal)) {
    check_private(delta, entry, change_of(entry.index));
    check(HAS_PRIVACY || sent_right(change_of(entry.index), delta, entry.bits), "I7", "a value is not the frozen delta's");
    if (pulled[rank]) {
      check(frozen[rank].index == entry.index && frozen[rank].bits == entry.bits, "I7", "a rank pulled again differs");
    }
    if (rank > 0 && pulled[rank - 1])
      check(frozen[rank - 1].index < entry.index, "I9", "indices do not increase over chunks");
    if (rank + 1 < k && pulled[rank + 1])
      check(frozen[rank + 1].index > entry.index, "I9", "indices do not increase over chunks");
    frozen[rank] = entry;
    pulled[rank] = true;
    ++rank;
    ++reached.entries;
  }
}

void check_accepted(const Bytes& request, const Bytes& answer) {
  const uint8_t type = request[0];
  if (type != Configure::kType && type != Load::kType && type != Train::kType && type != Sample::kType &&
      type != Pull::kType && type != kRecall && type != kKeep && type != kSamplePart)
    check(before.unchanged(), "I4", "a message that only reads has changed the device");
  // The first Configure of a session loads the weights that are saved.
  const bool recalls = HAS_STORE && type == Configure::kType &&
                       (!before.same(Learner_session_{}) || !before.was(Learner_has_session_{}));
  if (type != Load::kType && type != Sample::kType && type != kSamplePart && !recalls)
    check(before.same(Learner_received_{}) &&
              (type == Train::kType ? before.same_globals() : before.same(Learner_parameters_{})),
          "I4", "a message that neither loads nor trains has changed a weight");
  switch (type) {
    case Hello::kType: {
      HelloAnswer hello;
      check(parsed(answer, hello) && hello.receive_window == kWindow, "I10", "a wrong HelloAnswer");
      break;
    }
    case Configure::kType: {
      check(answer.size() == kFrameHeaderBytes, "I10", "a wrong ConfigureAnswer");
      if (!before.same(Learner_session_{}) || !before.was(Learner_has_session_{})) forget_frozen();
      break;
    }
    case Load::kType: {
      Load load;
      LoadAnswer loaded;
      check(parsed(request, load) && parsed(answer, loaded), "I10", "a wrong LoadAnswer");
      check_loaded(load, loaded);
      break;
    }
    case Train::kType: {
      check_progress(answer);
      note_run();
      if (before.was(Learner_state_{}) == State::kLoaded) kept_set.begin();
      if (before.was(Learner_state_{}) == State::kLoaded) trains_delta = is(Learner_recipe_{})->top_k > 0;
      if (before.was(Learner_state_{}) != State::kLoaded)
        check(before.unchanged(), "I3", "Train again has changed the device");
      else
        check(is(Learner_step_{}) == 0, "I3", "Train has trained by itself");
      break;
    }
    case Sample::kType: {
      Sample sample;
      check(parsed(request, sample), "I10", "a malformed Sample was accepted");
      check_progress(answer);
      if (before.unchanged()) break;
      check(before.was(Learner_state_{}) == State::kTraining && sample.token == is(Learner_token_{}) &&
                sample.step == before.was(Learner_step_{}) && is(Learner_step_{}) == sample.step + 1,
            "I3", "a Sample out of order was trained, or trained more than once");
      check_trained(sample.data, sample.dtype, sample.scale);
      kept_set.add(*before.was(Learner_recipe_{}), sample);
      ++reached.steps;
      break;
    }
    case Pull::kType: {
      Pull pull;
      check(parsed(request, pull), "I10", "a malformed Pull was accepted");
      check(before.same(Learner_state_{}) && before.same(Learner_step_{}) && before.same(Learner_token_{}), "I7",
            "a Pull has changed the cycle");
      check_pulled(pull, answer);
      break;
    }
    case Fetch::kType: {
      check(!HAS_PRIVACY, "I7", "weights of a private round were read");
      Fetch fetch;
      Weights weights;
      check(parsed(request, fetch) && parsed(answer, weights), "I10", "wrong Weights");
      check(weights.offset == fetch.offset && weights.data_size % 4 == 0 && weights.data_size / 4 <= fetch.count, "I10",
            "Weights that were not asked for");
      Reader in(weights.data, weights.data_size);
      for (uint32_t i = weights.offset; in.left() > 0; ++i) {
        check(i < kParameters, "I1", "more weights than there are");
        check(in.u32() == bits_of<uint32_t>((learner().*reveal(Learner_parameters_{}))[i]), "I10", "wrong weights");
      }
      break;
    }
    case Predict::kType: {
      check(!HAS_PRIVACY || is(Learner_state_{}) == State::kLoaded || !trains_delta, "I7",
            "predictions of weights that a private round has trained");
      const size_t payload = answer.size() - kFrameHeaderBytes;
      check(payload > 0 && payload % (4 * model::kOutputSize) == 0, "I10", "wrong Outputs");
      break;
    }
    case kRecall: case kKeep: check_store(request, answer); break;
    case kLook: check_contents(answer); break;
    case kSamplePart: check_sample_part(request, answer); break;
    case kInputPart: check_input_part(request, answer); break;
    default: violated("I10", "a message that does not exist was accepted");
  }
  ++reached.accepted[type];
}

// Checks a refusal's detail: the value that the request should have had, which depends on the device's state and not on
// earlier messages; otherwise 0.
void check_detail(const Bytes& request, const ErrorAnswer& error) {
  Load load;
  const bool loads = request[0] == Load::kType && parsed(request, load);
  switch (error.status) {
    case Status::kBadToken:
      check(error.detail == is(Learner_token_{}), "I10", "BAD_TOKEN does not name the cycle in progress");
      break;
    case Status::kBadOffset: {
      const bool is_part = request[0] == kSamplePart || request[0] == kInputPart;
      const uint32_t expected = loads                          ? is(Learner_loaded_{})
                                : request[0] == Sample::kType ? is(Learner_step_{})
                                : request[0] == Pull::kType   ? is(Learner_delta_{}).count()
                                : is_part                     ? expected_position(request)
                                                               : kParameters;
      const bool begins = loads && (!is(Learner_has_token_{}) || load.token > is(Learner_token_{}));
      check(error.detail == expected || (begins && error.detail == 0), "I10", "BAD_OFFSET names another offset than expected");
      break;
    }
    default:
      check(error.detail == 0 || (loads && error.detail == load.offset), "I10", "a refusal has the detail of an earlier one");
  }
}

void check_answer(const Bytes& request, const Bytes& answer) {
  check(answer[1] == request[1], "I10", "an answer has another sequence than its request");
  if (answer[0] == kErrorType) {
    ErrorAnswer error;
    check(parsed(answer, error), "I10", "a wrong ErrorAnswer");
    ++reached.status[static_cast<int>(error.status)];
    check_detail(request, error);
    check(before.unchanged(), "I4", "a refused message has changed the device");
    check_parts(request, false);
    return;
  }
  check(answer[0] == (request[0] | kAnswerBit), "I10", "an answer of another type than its request");
  ++reached.status[0];
  check_accepted(request, answer);
  check_parts(request, true);
}

// The pending Await, which is answered later.
Bytes awaited;

// Feeds bytes with at most one 0x00, which is their last. Returns the answer, if any.
Reply feed_piece(const uint8_t* bytes, size_t size, Bytes& line) {
  before.take();
  line.insert(line.end(), bytes, bytes + size);
  const bool ends = size > 0 && bytes[size - 1] == 0;
  const Bytes request = ends ? unframed(line.data(), line.size() - 1, kWindow) : Bytes{};
  if (ends) line.clear();
  for (size_t used = 0; used < size;) used += device().receive(bytes + used, size - used);
  Reply answer = reply();
  if (request.empty()) {
    check(!answer.present && before.unchanged(), "I2", "bytes that are not a frame were answered, or changed the device");
    reached.damaged += ends && size > 1;
    return answer;
  }
  if (request[0] == Await::kType && request.size() == kFrameHeaderBytes + Await::kFixedSize) {
    check(!answer.present && before.unchanged(), "I10", "an Await was not put off to the next step");
    awaited = request;
    return answer;
  }
  check(answer.present, "I10", "a valid frame has no answer");
  check_answer(request, answer.body);
  check_always();
  return answer;
}

void work() {
  before.take();
  const bool trained = device().work();
  const bool was_training = before.was(Learner_state_{}) == State::kTraining && before.was(Learner_has_token_{});
  const uint32_t step = before.was(Learner_step_{});
  const bool was_kept = was_training && kept_set.has_all(*before.was(Learner_recipe_{}), step);
  check(trained == (was_training && (source::on_device() || was_kept)), "I3",
        "work() trained without a program or a sample, or did not train with both");
  if (trained) {
    check(is(Learner_step_{}) == before.was(Learner_step_{}) + 1, "I3", "work() did not train exactly one step");
    check(before.same(Learner_token_{}) && before.same(Learner_received_{}) && before.same(Learner_loaded_{}), "I4",
          "a training step has changed more than the weights");
    if (was_kept) {
      const Bytes& sample = kept_set.samples[place_of(*before.was(Learner_recipe_{}), step).index];
      check_trained(sample.data(), KeptSamples::kDtype, kept_set.scale);
      ++reached.kept;
    }
    ++reached.steps;
  } else {
    check(before.unchanged(), "I4", "work() without training has changed the device");
  }
  const Reply answer = reply();
  if (answer.present) {
    check(!awaited.empty(), "I10", "the device has sent an answer without a request");
    check(answer.body[1] == awaited[1], "I10", "an answer has another sequence than its Await");
    if (answer.body[0] == kErrorType) {
      ErrorAnswer error;
      check(parsed(answer.body, error), "I10", "a wrong ErrorAnswer");
      ++reached.status[static_cast<int>(error.status)];
      check_detail(awaited, error);
    } else {
      Await await{};
      check(answer.body[0] == (Await::kType | kAnswerBit) && parsed(awaited, await), "I10", "a wrong answer to Await");
      check_progress(answer.body);
      check(is(Learner_step_{}) >= await.step || is(Learner_state_{}) != State::kTraining, "I10", "Await was answered early");
      ++reached.accepted[Await::kType];
    }
    awaited.clear();
  }
  check_always();
}

}  // namespace
