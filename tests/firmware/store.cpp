// Tests the store with a power cut at every program and erase, on simulated flash; tests/core has the long version.
#include "store/log.hpp"

#include "check.hpp"
#include "simulated_flash.hpp"

namespace tmf {
namespace {

constexpr uint8_t kModel[8] = {1, 2, 3, 4, 5, 6, 7, 8};
constexpr uint32_t kCount = 21;
constexpr uint32_t kSaves = 40;

using Memory = unit::FlashMemory<4>;
using Log = store::Log<unit::SimulatedFlash<Memory>, 2>;

Memory memory, copy;

store::Tag tag(uint32_t round) { return {1, 2, 3, round}; }

Status save(Log& log, uint32_t round) {
  return log.save(store::Kind::kRound, tag(round), kCount, [round](Log::Sink& sink) {
    for (uint32_t i = 0; i < kCount; ++i) sink(static_cast<float>(round * 100 + i));
  });
}

// Whether the newest state is that of `round`, and of the round before it; round 0 is none.
bool holds(Log& log, uint32_t round) {
  const uint32_t newest = log.newest_round(), previous = log.round_before(tag(round));
  if (round == 0) return newest == Log::kNowhere;
  if (!log.has_record(newest, kCount) || log.number_at(newest, 7) != static_cast<float>(round * 100 + 7)) return false;
  if (round == 1) return previous == Log::kNowhere;
  return log.has_record(previous, kCount) && log.number_at(previous, 7) == static_cast<float>((round - 1) * 100 + 7);
}

}  // namespace

TEST("a power cut at any program or erase leaves the old or the new state") {
  memory.make_blank();
  uint32_t cuts = 0;
  for (uint32_t round = 1; round <= kSaves; ++round) {
    bool finished = false;
    for (uint32_t operation = 0; !finished; ++operation) {
      copy = memory;
      copy.random = round * 977 + operation;
      copy.operations = 0;
      copy.cut_at = operation;
      copy.cut = unit::Cut::kHalfway;
      Log log(unit::SimulatedFlash<Memory>{&copy});
      log.open(kModel);
      CHECK(holds(log, round - 1));
      const Status status = save(log, round);
      finished = copy.has_power;
      CHECK(finished == (status == Status::kOk));
      cuts += !finished;
      copy.restore_power();
      log.open(kModel);
      CHECK(holds(log, round) || (!finished && holds(log, round - 1)));
      CHECK(save(log, round) == Status::kOk && holds(log, round));
      CHECK(!copy.misused);
    }
    memory = copy;
  }
  CHECK(cuts > 3 * kSaves);
}

}  // namespace tmf
