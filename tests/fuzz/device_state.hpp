// The device under test, with access to its private state, and copies of that state.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "dispatch.hpp"
#include "inputs.hpp"
#include "reference.hpp"

#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#define HAS_STORE 1
#else
#define HAS_STORE 0
#endif

using namespace tmf;
using namespace tmf::protocol;
using namespace fuzz;

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
#if HAS_PRIVACY
REVEAL(PrivateUpdate, rounded)
#endif
#if HAS_PARTS
REVEAL(SampleParts, waiting_)
REVEAL(SampleParts, dtype_)
REVEAL(SampleParts, taken_)
REVEAL(SampleParts, number_)
REVEAL(SampleParts, scale_)
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
uint32_t secrets = 0;  // that the board has asked its entropy source for, since an input began
bool entropy_fails = false;  // for all of an input
bool trains_delta = true;  // whether the last Train began a program that sends a delta, as those of the stored states do

template <typename Message>
bool parsed(const Bytes& body, Message& message) {
  return parse(body.data() + kFrameHeaderBytes, body.size() - kFrameHeaderBytes, message) == Status::kOk;
}

// Statistics of a run, which show that the inputs reach every message, state and status.
struct Reached {
  uint64_t accepted[kLook + 1];
  uint64_t status[16];
  uint64_t state[8];
  uint64_t fault[16];
  uint64_t damaged;
  uint64_t steps;
  uint64_t kept;  // of these on samples that came in an earlier pass
  uint64_t entries;
  uint64_t codec;
  uint64_t decoder;
} reached;

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
  // Whether nothing has changed but what waits of a sample in parts, which part_checks.hpp looks at.
  bool unchanged() {
    const size_t from = parts_at(), to = from + sizeof(SampleParts) * HAS_PARTS;
    const auto* const now = reinterpret_cast<const uint8_t*>(&learner());
    return writes == flash_writes && std::memcmp(bytes, now, from) == 0 && std::memcmp(bytes + to, now + to, size - to) == 0;
  }
  static size_t parts_at() {
    const SampleParts& parts = (const SampleParts&)learner();  // a private base
    return static_cast<size_t>(reinterpret_cast<const uint8_t*>(&parts) - reinterpret_cast<const uint8_t*>(&learner()));
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

}  // namespace
