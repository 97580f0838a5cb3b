// The store on simulated flash, with a power cut at every program and erase: prints what was tried and what went wrong.
//
// A second, simple store (Expected) says which records must be there. After a cut they are those before the save that was cut,
// or those after it.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "simulated_flash.hpp"
#include "store/log.hpp"

using namespace tmf;

namespace {

constexpr uint8_t kModel[8] = {1, 2, 3, 4, 5, 6, 7, 8};
constexpr uint8_t kOther[8] = {1, 2, 3, 4, 5, 6, 7, 9};
constexpr uint32_t kRoundCount = 21;
constexpr uint32_t kWeightCount = 33;

unsigned long failures = 0;

void expect(bool holds, const char* what, uint32_t where) {
  if (holds) return;
  std::printf("FAILED: %s (%u)\n", what, where);
  if (++failures == 20) std::exit(1);
}

// One save: its record and the stamp that its numbers are made from.
struct Save {
  store::Kind kind;
  store::Tag tag;
  float stamp;
};

struct Entry {
  store::Tag tag{};
  float stamp = 0;  // 0: not there
};

struct Expected {
  Entry newest, previous, weights;

  void save(const Save& save) {
    if (save.kind == store::Kind::kWeights) {
      weights = {save.tag, save.stamp};
      return;
    }
    for (const Entry& before : {newest, previous}) {
      if (before.stamp != 0 && before.tag.is_before(save.tag)) {
        previous = before;
        newest = {save.tag, save.stamp};
        return;
      }
    }
    previous = {};
    newest = {save.tag, save.stamp};
  }
};

template <typename Log>
float stamp_of(Log& log, uint32_t at, uint32_t count) {
  if (!log.has_record(at, count)) return 0;
  const float first = log.number_at(at, 0);
  for (uint32_t i = 0; i < count; ++i)
    if (log.number_at(at, i) != first + static_cast<float>(i)) return 0;
  return first;
}

template <typename Log>
bool holds(Log& log, const Expected& expected) {
  if (stamp_of(log, log.weights(), kWeightCount) != expected.weights.stamp) return false;
  if (stamp_of(log, log.newest_round(), kRoundCount) != expected.newest.stamp) return false;
  if (expected.newest.stamp == 0) return true;
  store::Tag again = expected.newest.tag;  // the round is done again: it starts from the state before it
  if (stamp_of(log, log.round_before(again), kRoundCount) != expected.previous.stamp) return false;
  ++again.round;
  return stamp_of(log, log.round_before(again), kRoundCount) == expected.newest.stamp;
}

template <typename Log>
Status save(Log& log, const Save& save) {
  const uint32_t count = save.kind == store::Kind::kRound ? kRoundCount : kWeightCount;
  return log.save(save.kind, save.tag, count, [&](auto& sink) {
    for (uint32_t i = 0; i < count; ++i) sink(save.stamp + static_cast<float>(i));
  });
}

// Rounds of a client with gaps, some of them done again, another run in between, and weights now and then. Or weights alone.
std::vector<Save> scenario(uint32_t length, bool has_rounds) {
  std::vector<Save> saves;
  uint32_t round = 0, random = 7;
  for (uint32_t i = 0; i < length; ++i) {
    random = random * 1664525u + 1013904223u;
    const uint32_t run = i / 120;
    if (i % 120 == 0) round = 0;
    const float stamp = 1000.0f * static_cast<float>(i + 1);
    if (!has_rounds || random >> 29 == 0) {
      saves.push_back({store::Kind::kWeights, {run, 1, 3, round}, stamp});
    } else {
      round += random >> 27 & 3;  // 0: the same round again
      saves.push_back({store::Kind::kRound, {run, 1, 3, round}, stamp});
    }
  }
  return saves;
}

template <uint32_t kWriteBytes, uint32_t kSlotPages, bool kHasRounds = true>
void cut_everywhere(uint32_t length) {
  using Memory = unit::FlashMemory<2 * kSlotPages, 256, kWriteBytes>;
  using Flash = unit::SimulatedFlash<Memory>;
  using Log = store::Log<Flash, kSlotPages, kHasRounds>;
  const std::vector<Save> saves = scenario(length, kHasRounds);
  static Memory memory, copy;
  memory.make_blank();
  Expected before;
  unsigned long cuts = 0, kept_old = 0, kept_new = 0;
  uint32_t erases = 0;
  for (uint32_t i = 0; i < saves.size(); ++i) {
    Expected after = before;
    after.save(saves[i]);
    Memory start = memory;
    for (uint32_t operation = 0;; ++operation) {
      bool was_cut = false;
      for (const unit::Cut cut : {unit::Cut::kBefore, unit::Cut::kHalfway, unit::Cut::kAfter}) {
        copy = start;
        copy.random = i * 977 + operation;
        Log log(Flash{&copy});
        log.open(kModel);
        copy.operations = 0;
        copy.cut_at = operation;
        copy.cut = cut;
        const Status status = save(log, saves[i]);
        if (copy.has_power) {
          expect(status == Status::kOk, "a save without a cut succeeds", i);
          break;
        }
        was_cut = true;
        ++cuts;
        // The power comes back.
        copy.restore_power();
        Log again(Flash{&copy});
        again.open(kModel);
        const bool is_old = holds(again, before), is_new = holds(again, after);
        expect(is_old || is_new, "after a cut the records are the old or the new ones", i);
        kept_old += is_old;
        kept_new += !is_old && is_new;
        // The next saves work, and one of them is cut as well.
        Expected state = is_old ? before : after;
        for (uint32_t next = i; next < saves.size() && next < i + 3; ++next) {
          Expected then = state;
          then.save(saves[next]);
          if (next == i + 1) {
            copy.cut_at = copy.operations + operation % 7;
            copy.cut = unit::Cut::kHalfway;
          }
          static_cast<void>(save(again, saves[next]));
          const bool lost = !copy.has_power;
          copy.restore_power();
          again.open(kModel);
          expect(holds(again, then) || (lost && holds(again, state)), "saves after a cut", i);
          if (holds(again, then)) state = then;
        }
        expect(!copy.misused, "flash is written once between two erases, in whole units", i);
      }
      if (!was_cut) break;
    }
    Log log(Flash{&memory});
    log.open(kModel);
    expect(save(log, saves[i]) == Status::kOk, "a save succeeds", i);
    expect(holds(log, after), "the records without a restart", i);
    expect(log.saves() == i + 1, "saves are counted over restarts", i);
    erases = log.erases();
    before = after;
  }
  expect(!memory.misused, "flash is written once between two erases, in whole units", 0);
  for (const uint32_t page : memory.erases) expect(page * 2 + 1 >= erases && page * 2 <= erases + 1, "both slots wear alike", page);
  std::printf("unit %u: %u saves, %u erases, %lu cuts: %lu old, %lu new\n", kWriteBytes, length, erases, cuts, kept_old, kept_new);
}

using Memory = unit::FlashMemory<4>;
using Flash = unit::SimulatedFlash<Memory>;
using Log = store::Log<Flash, 2>;
Memory memory;

const Save kFirst = {store::Kind::kRound, {0, 1, 3, 0}, 1000.0f};
const Save kSecond = {store::Kind::kWeights, {0, 1, 3, 0}, 2000.0f};

store::Condition opened(const uint8_t (&model)[8]) {
  Log log(Flash{&memory});
  log.open(model);
  return log.condition();
}

void expect_replaced(const char* what) {
  Log log(Flash{&memory});
  log.open(kModel);
  expect(log.newest_round() == Log::kNowhere && log.weights() == Log::kNowhere, what, 0);
  expect(save(log, kSecond) == Status::kOk && log.condition() == store::Condition::kReady, what, 1);
  log.open(kModel);
  expect(log.condition() == store::Condition::kReady && stamp_of(log, log.weights(), kWeightCount) == 2000.0f, what, 2);
}

void refuse() {
  memory.make_blank();
  expect(opened(kModel) == store::Condition::kEmpty, "blank flash is empty", 0);
  expect_replaced("blank flash");

  memory.make_blank();
  {
    Log log(Flash{&memory});
    log.open(kOther);
    expect(save(log, kFirst) == Status::kOk, "a save", 0);
  }
  expect(opened(kModel) == store::Condition::kOtherModel, "another model's records are refused", 0);
  expect_replaced("another model's records");

  memory.make_blank();
  {
    Log log(Flash{&memory});
    log.open(kModel);
    expect(save(log, kFirst) == Status::kOk, "a save", 0);
  }
  memory.bytes[4] = 9;  // Header::format
  expect(opened(kModel) == store::Condition::kOtherFormat, "another format's records are refused", 0);
  expect_replaced("another format's records");

  for (uint32_t seed = 1; seed <= 200; ++seed) {
    memory.make_blank();
    memory.random = seed;
    for (uint8_t& byte : memory.bytes) byte = memory.noise();
    expect(opened(kModel) == store::Condition::kDamaged, "random bytes are refused", seed);
    expect_replaced("random bytes");
  }

  // A flipped bit anywhere in the only record or its header.
  memory.make_blank();
  {
    Log log(Flash{&memory});
    log.open(kModel);
    expect(save(log, kFirst) == Status::kOk, "a save", 0);
  }
  const Memory good = memory;
  for (uint32_t bit = 0; bit < 8 * (Log::header_bytes() + Log::record_bytes(kRoundCount)); ++bit) {
    memory = good;
    memory.bytes[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    Log log(Flash{&memory});
    log.open(kModel);
    expect(log.newest_round() == Log::kNowhere, "a record with a flipped bit is refused", bit);
    expect(log.condition() == store::Condition::kDamaged || log.condition() == store::Condition::kOtherFormat,
           "a flipped bit is reported", bit);
  }
}

void fill_and_wear() {
  memory.make_blank();
  Log log(Flash{&memory});
  log.open(kModel);
  expect(save(log, kFirst) == Status::kOk, "a save", 0);
  const auto give = [](auto& sink) {
    for (uint32_t i = 0; i < 120; ++i) sink(1.0f);
  };
  expect(log.save(store::Kind::kWeights, {}, 120, give) == Status::kTooLarge, "what does not fit is refused", 0);
  expect(log.condition() == store::Condition::kFull, "full is reported", 0);
  expect(stamp_of(log, log.newest_round(), kRoundCount) == 1000.0f, "a full store keeps its records", 0);
  expect(save(log, kSecond) == Status::kOk && log.condition() == store::Condition::kReady, "smaller records fit", 0);

  memory.make_blank();
  memory.worn_after = 3;
  log.open(kModel);
  Status status = Status::kOk;
  Save next = kFirst;
  float last = 0;
  for (uint32_t i = 0; i < 1000 && status == Status::kOk; ++i) {
    next.tag.round = i;
    next.stamp = 1000.0f * static_cast<float>(i + 1);
    status = save(log, next);
    if (status == Status::kOk) last = next.stamp;
  }
  expect(status == Status::kBadState && log.condition() == store::Condition::kWorn, "worn flash is reported", 0);
  expect(stamp_of(log, log.newest_round(), kRoundCount) == last, "a worn store keeps its records", 0);
  const uint32_t operations = memory.operations;
  expect(save(log, next) == Status::kBadState && memory.operations == operations, "worn flash is left alone", 0);
  log.open(kModel);
  expect(stamp_of(log, log.newest_round(), kRoundCount) == last, "a worn store keeps its records over a restart", 0);
}

// Puts `value` at `at` and, behind the `size` bytes from `start` on, their CRC.
void put(uint32_t at, uint32_t value, uint32_t start, uint32_t size) {
  std::memcpy(memory.bytes + at, &value, sizeof value);
  const uint32_t crc = crc32(memory.bytes + start, size);
  std::memcpy(memory.bytes + start + size, &crc, sizeof crc);
}

// Counters that begin again at 0 after 2^32 - 1.
void wrap_counters() {
  memory.make_blank();
  Log log(Flash{&memory});
  log.open(kModel);
  expect(save(log, kFirst) == Status::kOk, "a save", 0);
  constexpr uint32_t kHeader = Log::header_bytes();
  put(16, UINT32_MAX - 1, 0, 20);                                      // Header::generation
  put(kHeader + 20, UINT32_MAX - 20, kHeader, 24 + 4 * kRoundCount);  // Head::sequence
  log.open(kModel);
  expect(log.erases() == UINT32_MAX - 1 && log.saves() == UINT32_MAX - 20, "the counters are near their end", 0);
  Save next = kFirst;
  for (uint32_t i = 1; i < 60; ++i) {
    next.tag.round = i;
    next.stamp = 1000.0f * static_cast<float>(i + 1);
    expect(save(log, next) == Status::kOk, "a save", i);
    log.open(kModel);
    expect(log.condition() == store::Condition::kReady, "a store whose counters begin again is ready", i);
    expect(stamp_of(log, log.newest_round(), kRoundCount) == next.stamp, "the newest state after counters begin again", i);
  }
  expect(log.erases() < 60, "the counter of erases began again", 0);
}

// A record that flash has lost since the last reset is not copied as if it were whole.
void lose_a_record() {
  memory.make_blank();
  Log log(Flash{&memory});
  log.open(kModel);
  expect(save(log, kSecond) == Status::kOk, "a save", 0);
  memory.bytes[log.weights() + 40] ^= 1;
  Save next = kFirst;
  for (uint32_t i = 0; i < 20; ++i) {
    next.tag.round = i;
    expect(save(log, next) == Status::kOk && stamp_of(log, log.newest_round(), kRoundCount) == 1000.0f, "saves go on", i);
    expect(!log.has_record(log.weights(), kWeightCount), "a lost record is not given out", i);
  }
  log.open(kModel);
  expect(!log.has_record(log.weights(), kWeightCount), "a lost record is not given out after a reset", 0);
}

}  // namespace

int main() {
  cut_everywhere<4, 4>(240);
  cut_everywhere<1, 2>(20);
  cut_everywhere<16, 3>(40);
  cut_everywhere<4, 2, false>(60);
  cut_everywhere<8, 2, false>(40);
  refuse();
  fill_and_wear();
  wrap_counters();
  lose_a_record();
  std::printf("%lu failures\n", failures);
  return failures == 0 ? 0 : 1;
}
