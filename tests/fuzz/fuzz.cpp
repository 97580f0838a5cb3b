// Fuzz harness: the whole firmware core with a line in memory. After every frame it checks the protocol's numbered invariants
// (docs/protocol.md).
//
// An input selects one of several stored states of the device, to which it applies operations: raw bytes, whole frames,
// damaged frames, training steps. Or it selects the frame decoder or the delta codec, which are tested in heap buffers of the
// exact size. libFuzzer calls LLVMFuzzerTestOneInput; with STANDALONE, main() makes the inputs from a seed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "delta_codec.hpp"
#include "dispatch.hpp"
#include "inputs.hpp"
#include "port.hpp"
#include "reference.hpp"
#include "source.hpp"

#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#define HAS_STORE 1
#else
#define HAS_STORE 0
#endif

using namespace tmf;
using namespace tmf::protocol;
using namespace fuzz;

// --- Access to the device's private state ---

// An explicit instantiation may name private members; this one defines a friend function that returns a pointer to the member.
template <typename Tag, auto member>
struct Reveal {
  friend auto reveal(Tag) { return member; }
};
#define REVEAL(Class, member)               \
  struct Class##_##member {                 \
    friend auto reveal(Class##_##member);   \
  };                                        \
  template struct Reveal<Class##_##member, &Class::member>;
REVEAL(Dispatcher, learner_)
REVEAL(Learner, has_session_)
REVEAL(Learner, session_)
REVEAL(Learner, has_token_)
REVEAL(Learner, token_)
REVEAL(Learner, state_)
REVEAL(Learner, fault_)
REVEAL(Learner, step_)
REVEAL(Learner, loaded_)
REVEAL(Learner, recipe_)
REVEAL(Learner, delta_)
REVEAL(Learner, parameters_)
REVEAL(Learner, received_)
REVEAL(Learner, kept_local_)
REVEAL(Learner, residual_)
REVEAL(Learner, arena_)
REVEAL(Learner, programs_)
#if HAS_STORE
REVEAL(SavedState, log_)
REVEAL(SavedState, run_)
#endif
#undef REVEAL

namespace {

static_assert(std::is_trivially_copyable_v<Dispatcher>, "states are stored and restored as bytes, at the same address");
alignas(Dispatcher) uint8_t device_bytes[sizeof(Dispatcher)];
Dispatcher& device() { return *reinterpret_cast<Dispatcher*>(device_bytes); }
Learner& learner() { return device().*reveal(Dispatcher_learner_{}); }

Bytes flash;  // of the firmware's store, if it has one
uint32_t flash_writes = 0;  // programs and erases
uint32_t trained_run = kRun;  // that was named before the last Train
Bytes answered;  // bytes that the device has sent since the last call of reply()
uint32_t now = 0;

// A copy of the learner without its arena.
struct Snapshot {
  alignas(Learner) uint8_t bytes[sizeof(Learner)];
  size_t size;
  size_t store_size;  // of the base class, which is the store
  uint32_t writes;

  void take() {
    const Learner& from = learner();
    const auto* const start = reinterpret_cast<const uint8_t*>(&from);
    size = static_cast<size_t>(reinterpret_cast<const uint8_t*>(&(from.*reveal(Learner_arena_{}))) - start);
    store_size = static_cast<size_t>(reinterpret_cast<const uint8_t*>(&(from.*reveal(Learner_programs_{}))) - start);
    writes = flash_writes;
    std::memcpy(bytes, &from, size);
  }
  const Learner& view() const { return *reinterpret_cast<const Learner*>(bytes); }
  bool unchanged() {
    return writes == flash_writes && std::memcmp(bytes, &learner(), size) == 0;
  }
  bool unchanged_but_for_the_store() {
    const auto* const now = reinterpret_cast<const uint8_t*>(&learner());
    return std::memcmp(bytes + store_size, now + store_size, size - store_size) == 0;
  }
  template <typename Tag>
  bool same(Tag) {
    const auto& mine = view().*reveal(Tag{});
    return std::memcmp(&mine, &(learner().*reveal(Tag{})), sizeof mine) == 0;
  }
  bool same_globals() {  // Train sets the local weights
    const auto& mine = view().*reveal(Learner_parameters_{});
    return std::memcmp(&mine, &(learner().*reveal(Learner_parameters_{})), sizeof(float) * kGlobal) == 0;
  }
  template <typename Tag>
  auto was(Tag) {
    return view().*reveal(Tag{});
  }
};
Snapshot before;

template <typename Tag>
auto is(Tag) {
  return learner().*reveal(Tag{});
}

// --- The entries pulled of the current delta, by rank ---

std::vector<Entry> frozen;
std::vector<bool> pulled;

void forget_frozen() {
  frozen.assign(kGlobal, Entry{});
  pulled.assign(kGlobal, false);
}

// --- Statistics of a run, which show that the inputs reach every message, state and status ---

struct Reached {
  uint64_t accepted[kLook + 1];
  uint64_t status[16];
  uint64_t state[8];
  uint64_t fault[16];
  uint64_t damaged;
  uint64_t steps;
  uint64_t entries;
  uint64_t codec;
  uint64_t decoder;
} reached;

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

template <typename Message>
bool parsed(const Bytes& body, Message& message) {
  return parse(body.data() + kFrameHeaderBytes, body.size() - kFrameHeaderBytes, message) == Status::kOk;
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
  uint32_t rank = delta.rank;
  for (const Entry& entry : decoded(delta, kGlobal)) {
    const float change = residual.add_to(entry.index, weights[entry.index] - received[entry.index]);
    check(sent_right(change, delta, entry.bits), "I7", "a value is not the frozen delta's");
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
      type != Pull::kType && type != kRecall && type != kKeep)
    check(before.unchanged(), "I4", "a message that only reads has changed the device");
  // The first Configure of a session loads the weights that are saved.
  const bool recalls = HAS_STORE && type == Configure::kType &&
                       (!before.same(Learner_session_{}) || !before.was(Learner_has_session_{}));
  if (type != Load::kType && type != Sample::kType && !recalls)
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
      const size_t payload = answer.size() - kFrameHeaderBytes;
      check(payload > 0 && payload % (4 * model::kOutputSize) == 0, "I10", "wrong Outputs");
      break;
    }
    case kRecall: case kKeep: check_store(request, answer); break;
    case kLook: check_contents(answer); break;
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
      const uint32_t expected = loads                          ? is(Learner_loaded_{})
                                : request[0] == Sample::kType ? is(Learner_step_{})
                                : request[0] == Pull::kType   ? is(Learner_delta_{}).count()
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
    return;
  }
  check(answer[0] == (request[0] | kAnswerBit), "I10", "an answer of another type than its request");
  ++reached.status[0];
  check_accepted(request, answer);
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
  check(trained == (was_training && source::on_device()), "I3", "work() trained without a program, or did not train with one");
  if (trained) {
    check(is(Learner_step_{}) == before.was(Learner_step_{}) + 1, "I3", "work() did not train exactly one step");
    check(before.same(Learner_token_{}) && before.same(Learner_received_{}) && before.same(Learner_loaded_{}), "I4",
          "a training step has changed more than the weights");
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

// --- Operations ---

void feed(const Bytes& wire, Bytes& line, Reply* last = nullptr) {
  size_t start = 0;
  for (size_t i = 0; i < wire.size(); ++i) {
    if (wire[i] != 0 && i + 1 < wire.size()) continue;
    Reply answer = feed_piece(wire.data() + start, i + 1 - start, line);
    if (last != nullptr && answer.present) *last = answer;
    start = i + 1;
  }
}

void run(const Operation& operation, Bytes& line) {
  const Bytes data(operation.data, operation.data + operation.size);
  switch (operation.kind) {
    case kRaw: feed(data, line); break;
    case kFrame: feed(framed(data), line); break;
    case kDamaged: {
      // The last three bytes give the position and the bits to flip.
      if (data.size() < 4) break;
      Bytes wire = framed(Bytes(data.begin(), data.end() - 3));
      const size_t at = data[data.size() - 3] | static_cast<size_t>(data[data.size() - 2]) << 8;
      wire[at % wire.size()] ^= data.back();
      feed(wire, line);
      break;
    }
    case kTwice: {
      const Bytes wire = framed(data);
      feed({0}, line);  // ends an unfinished frame of the last operation
      Reply first;
      Reply second;
      feed(wire, line, &first);
      if (!first.present) break;
      Snapshot after_first;
      after_first.take();
      feed(wire, line, &second);
      // Both answers have the same ticks, as nothing is trained between them.
      check(second.present && first.body == second.body, "I11", "a repeated request got another answer");
      if (first.body[0] != (Pull::kType | kAnswerBit))  // a Pull moves the encoder's cursor
        check(after_first.unchanged(), "I11", "a repeated request has changed the device again");
      break;
    }
    default:
      for (int i = 0; i < (data.empty() ? 1 : data[0] % 32); ++i) work();
  }
}

// --- The frame decoder and the delta codec alone, in heap buffers of the exact size ---

void run_decoder(Reader& in) {
  const size_t capacity = in.u8() + size_t{6};
  uint8_t* const buffer = static_cast<uint8_t*>(std::malloc(capacity));
  FrameDecoder decoder;
  Bytes line;
  Operation operation;
  while (next_operation(in, operation)) {
    Bytes data(operation.data, operation.data + operation.size);
    if (operation.kind != kRaw && !data.empty()) data = framed(data);
    for (const uint8_t byte : data) {
      const bool found = decoder.push(byte, buffer, capacity);
      line.push_back(byte);
      if (byte != 0) {
        check(!found, "I2", "a frame was accepted before its end");
        continue;
      }
      const Bytes expected = unframed(line.data(), line.size() - 1, capacity);
      check(found == !expected.empty(), "I2", "a damaged frame was accepted, or a good one dropped");
      if (found)
        check(Bytes(buffer, buffer + decoder.size()) == expected, "I2", "a frame has other bytes");
      line.clear();
    }
  }
  std::free(buffer);
  ++reached.decoder;
}

// The k entries that must be sent, found by sorting.
std::vector<uint32_t> reference_selection(const std::vector<float>& values, uint32_t k, const SelectionRule& choice,
                                          const uint32_t (&layer_ends)[3]) {
  const auto n = static_cast<uint32_t>(values.size());
  std::vector<uint32_t> ends(std::begin(layer_ends), std::end(layer_ends));
  if (choice.selection != Selection::kLayer) ends = {n};
  const auto parts = static_cast<uint32_t>(ends.size());
  std::vector<uint32_t> priorities(n);
  for (uint32_t i = 0; i < n; ++i)
    priorities[i] = choice.selection == Selection::kRandom
                        ? threefry({choice.key.seed, choice.key.client}, {choice.key.round, 9u << 24 | i}).first / 2
                        : magnitude_bits(values[i]);
  std::vector<uint32_t> selected;
  for (uint32_t part = 0, begin = 0; part < parts; begin = ends[part++]) {
    std::vector<uint32_t> order(ends[part] - begin);
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = begin + i;
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return priorities[a] > priorities[b]; });
    const auto apportioned = [&](uint64_t parts_before, uint64_t end) {
      return n == parts ? 0 : (k - parts) * (end - parts_before) / (n - parts);
    };
    order.resize(1 + apportioned(part + 1, ends[part]) - apportioned(part, begin));
    selected.insert(selected.end(), order.begin(), order.end());
  }
  std::sort(selected.begin(), selected.end());
  return selected;
}

void run_codec(Reader& in) {
  const uint32_t n = 3 + in.u16() % 700;
  Recipe recipe;
  const uint32_t k = recipe.top_k = 1 + in.u16() % n;
  recipe.uplink = static_cast<Dtype>(in.u8() % 4);
  recipe.selection = static_cast<Selection>(in.u8() % 3);
  const SelectionRule choice = {recipe.selection, {in.u32(), in.u32(), in.u32()}};
  const uint32_t first = 1 + in.u16() % (n - 2);
  const uint32_t layer_ends[] = {first, first + 1 + in.u16() % (n - 1 - first), n};
  const size_t capacity = 1 + in.u16() % 300;
  const uint8_t sparsity = in.u8();
  std::vector<float> values(n, 0.0f);
  uint32_t mixed = 1;
  for (float& value : values) {
    mixed = mixed * 1664525 + 1013904223;
    if ((mixed >> 24) < sparsity) continue;
    value = in.left() >= 4 ? in.f32() : static_cast<float>(static_cast<int32_t>(mixed)) * 0x1p-40f;
  }
  const auto at = [&](uint32_t i) { return values[i]; };
  uint32_t histogram[128];
  DeltaEncoder<3> encoder;
  const Status status = encoder.freeze(at, layer_ends, recipe, choice.key, histogram);
  ++reached.codec;
  if (status != Status::kOk) {
    check(encoder.count() == 0, "I5", "a refused delta can be pulled");
    return;
  }
  check(encoder.count() == k, "I9", "another number of entries than asked for");

  const std::vector<uint32_t> order = reference_selection(values, k, choice, layer_ends);
  for (const uint32_t i : order) check(is_finite(values[i]), "I5", "a delta with a value that is not finite was frozen");

  uint8_t* const buffer = static_cast<uint8_t*>(std::malloc(capacity));
  for (uint32_t rank = 0, turn = 0; rank < k && turn < 64; ++turn) {
    Delta header{};
    size_t size = 0;
    const Status outcome = encoder.encode(at, rank, header, buffer, capacity, size);
    if (outcome == Status::kTooLarge) {
      check(capacity < 1 + 3 + width(recipe.uplink), "I9", "an entry that fits was refused");
      break;
    }
    check(outcome == Status::kOk && header.rank == rank && size <= capacity, "I9", "a chunk was refused or too long");
    header.data = buffer;
    header.data_size = size;
    uint32_t at_rank = rank;
    for (const Entry& entry : decoded(header, n)) {
      check(at_rank < k && order[at_rank] == entry.index, "I9",
            "not the entries of the highest priority, lowest index first");
      check(sent_right(values[entry.index], header, entry.bits), "I7", "a value is not the delta's");
      ++at_rank;
    }
    rank = (turn % 5 == 3 && rank > 0) ? rank / 2 : at_rank;  // sometimes goes back
  }
  std::free(buffer);
}

// --- Stored states ---

Bytes states[kStates];
Bytes flashes[kStates];

template <typename Message>
void say(const Message& message) {
  Bytes line;
  feed(framed(body_of(message, 9)), line);
}

void keep(int state) {
  states[state].assign(device_bytes, device_bytes + sizeof device_bytes);
  flashes[state] = flash;
}

void restore(int state) {
  static int last = -1;
  static uint32_t written = 0;
  std::memcpy(device_bytes, states[state].data(), sizeof device_bytes);
  if (state != last || flash_writes != written) flash = flashes[state];
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
    train_steps(0, 7);
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

// --- The board contract, in memory ---

namespace tmf::port {
void init(int, char**) {}
size_t read(uint8_t*, size_t) { return 0; }
void write(const uint8_t* from, size_t size) { answered.insert(answered.end(), from, from + size); }
void wait() {}
uint32_t ticks() { return now += 7; }
void unique_id(uint8_t (&id)[8]) { std::memcpy(id, "fuzzfuzz", 8); }
}  // namespace tmf::port

#if HAS_STORE
namespace tmf::port::storage {

Status open() {
  flash.assign(2 * store::kSlotPages * store::kPageBytes, 0xFF);
  return Status::kOk;
}

Status read(uint32_t at, void* to, size_t size) {
  check(size <= flash.size() && at <= flash.size() - size, "I1", "the store has read beyond its flash");
  std::memcpy(to, flash.data() + at, size);
  return Status::kOk;
}

Status program(uint32_t at, const void* from, size_t size) {
  check(size <= flash.size() && at <= flash.size() - size && (at | size) % store::kWriteBytes == 0, "I1",
        "the store has written beyond its flash, or parts of a unit");
  for (size_t i = 0; i < size; ++i) {
    check(flash[at + i] == 0xFF, "I1", "the store has written flash that is not erased");
    flash[at + i] = static_cast<const uint8_t*>(from)[i];
  }
  ++flash_writes;
  return Status::kOk;
}

Status erase(uint32_t page) {
  check(page < 2 * store::kSlotPages, "I1", "the store has erased beyond its flash");
  std::fill_n(flash.begin() + page * store::kPageBytes, store::kPageBytes, uint8_t{0xFF});
  ++flash_writes;
  return Status::kOk;
}

}  // namespace tmf::port::storage
#endif

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (states[0].empty()) {
    make_states();
    check_learned();
  }
  Reader in(data, size);
  const uint8_t start = in.u8() % 16;
  if (start == kCodec) {
    run_codec(in);
    return 0;
  }
  if (start == kDecoder) {
    run_decoder(in);
    return 0;
  }
  restore(start % kStates);
  answered.clear();
  awaited.clear();
  forget_frozen();
  Bytes line;
  Operation operation;
  while (next_operation(in, operation)) run(operation, line);
  return 0;
}

#ifndef STANDALONE

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

// Half of the calls append a message or make a new input; the other half use libFuzzer's own mutations.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned int seed) {
  Random random(seed);
  if (random.once_in(2)) return LLVMFuzzerMutate(data, size, most);
  Bytes input(data, data + size);
  if (size == 0 || data[0] % 16 >= kCodec || random.once_in(4)) {
    input = generated(random);
  } else {
    Host host(random, data[0] % 16 % kStates);
    append_operation(input, random, host);
  }
  input.resize(std::min(input.size(), most));
  std::copy(input.begin(), input.end(), data);
  return input.size();
}

#else

#include <sanitizer/common_interface_defs.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace {

constexpr char kUsage[] =
    "usage: fuzz [--seed N] [--first N] [--executions N] [--finding FILE] [--write DIR] [INPUT ...]\n"
    "  INPUT         input files to run first, e.g. the corpus\n"
    "  --executions  number of inputs to make from the seed and run (default: 0)\n"
    "  --first       number of the first of these inputs; an input depends only on the seed and its number (default: 0)\n"
    "  --finding     file for an input that violates an invariant (default: finding.bin)\n"
    "  --write       folder to write the inputs to instead of running them\n";

Bytes current;
std::string finding = "finding.bin";
std::string current_name;

void save(const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(current.data()), static_cast<std::streamsize>(current.size()));
}

// Called when a sanitizer or abort() ends the program.
void write_finding() {
  save(finding);
  std::fprintf(stderr, "input: %s, written to %s\n", current_name.c_str(), finding.c_str());
}

uint64_t number_after(int argc, char** argv, int& i) {
  if (++i == argc) std::exit((std::fputs(kUsage, stderr), 2));
  return std::strtoull(argv[i], nullptr, 10);
}

void report(uint64_t executions) {
  std::printf("executions %llu\n", static_cast<unsigned long long>(executions));
  const auto list = [](const char* name, const uint64_t* counts, size_t size) {
    std::printf("%s", name);
    for (size_t i = 0; i < size; ++i) std::printf(" %llu", static_cast<unsigned long long>(counts[i]));
    std::printf("\n");
  };
  list("accepted", reached.accepted, sizeof reached.accepted / sizeof reached.accepted[0]);
  list("status", reached.status, 10);
  list("state", reached.state, 6);
  list("fault", reached.fault, 10);
  list("damaged", &reached.damaged, 1);
  list("steps", &reached.steps, 1);
  list("entries", &reached.entries, 1);
  list("codec", &reached.codec, 1);
  list("decoder", &reached.decoder, 1);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1;
  uint64_t first = 0;
  uint64_t executions = 0;
  std::string folder;
  std::vector<std::string> inputs;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--seed") {
      seed = number_after(argc, argv, i);
    } else if (argument == "--first") {
      first = number_after(argc, argv, i);
    } else if (argument == "--executions") {
      executions = number_after(argc, argv, i);
    } else if (argument == "--finding" && i + 1 < argc) {
      finding = argv[++i];
    } else if (argument == "--write" && i + 1 < argc) {
      folder = argv[++i];
    } else if (argument[0] == '-') {
      std::fputs(kUsage, stderr);
      return 2;
    } else {
      inputs.push_back(argument);
    }
  }
  __sanitizer_set_death_callback(write_finding);
  std::signal(SIGABRT, [](int) { write_finding(); });
  for (const std::string& name : inputs) {
    std::ifstream file(name, std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "fuzz: cannot read %s\n", name.c_str());
      return 2;
    }
    current.assign(std::istreambuf_iterator<char>(file), {});
    current_name = name;
    LLVMFuzzerTestOneInput(current.data(), current.size());
  }
  for (uint64_t i = first; i < first + executions; ++i) {
    Random random(Random(seed).next() + i);
    current = generated(random);
    if (!folder.empty()) {
      save(folder + "/" + std::to_string(i));
      continue;
    }
    current_name = "--seed " + std::to_string(seed) + " --first " + std::to_string(i) + " --executions 1";
    LLVMFuzzerTestOneInput(current.data(), current.size());
  }
  report(inputs.size() + executions);
}

#endif
