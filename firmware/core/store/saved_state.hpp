// What the learner keeps over a reset, in the board's flash: the state of a client after its last two rounds, and weights.
// The generated saved_state.hpp includes this file after store_facts.hpp, which has the facts of the flash and the messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include <measures.hpp>  // generated for firmware that measures itself

#include "bytes.hpp"
#include "model.hpp"
#include "own_statistics.hpp"
#include "prng.hpp"
#include "protocol.hpp"
#include "sample_check.hpp"
#include "store/log.hpp"
#include "store/storage.hpp"

namespace tmf {

namespace store {

// The storage of the port as a Log needs it.
struct PortFlash {
  static constexpr uint32_t kPageBytes = store::kPageBytes;
  static constexpr uint32_t kWriteBytes = store::kWriteBytes;

  Status read(uint32_t at, void* to, size_t size) { return port::storage::read(at, to, size); }
  Status program(uint32_t at, const void* from, size_t size) {
    return Measures::of_program(size, [&] { return port::storage::program(at, from, size); });
  }
  Status erase(uint32_t page) {
    return Measures::of_erase([&] { return port::storage::erase(page); });
  }
};
// A model that keeps nothing between rounds has records of weights only.
using PortLog = Log<PortFlash, kSlotPages, model::kFeedsBack || model::kKeepsLocal>;
extern template class Log<PortFlash, kSlotPages, model::kFeedsBack || model::kKeepsLocal>;  // in log.cpp, so that it is compiled once

}  // namespace store

// The store of this firmware's model; the base of the learner, and the part of the core that a sketch with a learner of its own
// may use: open() once, then load_weights() after a start and save_weights() whenever they are worth a write.
class SavedState {
  using Log = store::PortLog;

 public:
  static constexpr bool kIsStored = true;

  // Reads the flash. Writes nothing, so that the records of other firmware stay until the first save.
  void open() {
    if (port::storage::open() != Status::kOk) {
      log_.set_missing();
      return;
    }
    log_.open(model::kModelHash);
    if (const uint32_t at = log_.weights(); at != Log::kNowhere)
      static_cast<void>(log_.read_numbers(at, kStatisticsAt, &own_statistics, sizeof own_statistics));
  }

  store::Condition condition() const { return log_.condition(); }

  // Sets all kParameterCount weights to those of the last save_weights(). Returns whether there are any.
  bool load_weights(float* weights) {
    has_learned_ = false;
    const uint32_t at = log_.weights();
    return log_.has_record(at, kWeightsCount) && log_.read_numbers(at, 0, weights, kWeightsBytes) == Status::kOk;
  }

  // What the loaded weights were trained on last; needed only where a client's state is saved.
  void load_key(Key& key) {
    if constexpr (kRoundCount > 0) {
      const store::Tag saved = log_.tag_at(log_.weights());
      key = {saved.seed, saved.client, saved.round};
      trained_run_ = saved.run;
    }
  }

  // Saves all weights and the statistics of what the board has learned by itself, unless they are the saved ones. `key` says
  // what they were trained on last. Fails as Log::save does, and with kNotFinite if they have diverged: the saved ones stay.
  Status save_weights(const float* weights, const Key& key) {
    return all_finite(weights, model::kParameterCount) ? save_with_names(weights, key, nullptr) : Status::kNotFinite;
  }

  // The same for finite weights, with `names` of the classes, kNameBytes long; nullptr leaves those that are saved. And after
  // learning by itself the state of the client between rounds: `owed` is its residual.
  template <typename Owed>
  Status save(const float* weights, const Key& key, const Owed& owed, const uint8_t* names) {
    const Status status = save_with_names(weights, key, names);
    if constexpr (kRoundCount > 0) {
      if (status != Status::kOk || !has_learned_) return status;
      has_learned_ = false;
      return log_.save(store::Kind::kRound, tag(key, trained_run_), kRoundCount, [&](Log::Sink& sink) {
        if constexpr (model::kFeedsBack)
          for (uint32_t i = 0; i < model::kGlobalCount; ++i) sink(owed.at(i));
        sink.put(weights + model::kGlobalCount, sizeof(float) * kKeptCount);
      });
    }
    static_cast<void>(owed);
    return status;
  }

  // Whether what the board has learned is to be saved after so many samples.
  static bool is_due(uint32_t learned) { return store::kSaveEvery > 0 && learned % store::kSaveEvery == 0; }

  // Before a program: sets what its client keeps to the state after the client's last round before this one, or to nothing.
  // `sends_delta`: this is a round, not an adaptation, which starts from the last state of all. After a failed save, and
  // when the board has learned by itself, the memory has a later state than the flash; then it is left as it is.
  template <typename Kept, typename Owed>
  void load_round(const Key& key, bool sends_delta, Kept& kept, Owed& owed) {
    if constexpr (kRoundCount > 0) {
      trained_run_ = run_;
      if (has_learned_ || log_.condition() >= store::Condition::kFull) return;
      store::Tag before = tag(key);
      if (!sends_delta) before.round = UINT32_MAX;
      kept.clear();
      owed.clear();
      const uint32_t at = log_.round_before(before);
      if (!log_.has_record(at, kRoundCount)) return;
      for (uint32_t i = 0; i < kOwedCount; ++i) owed.set(i, log_.number_at(at, i));
      for (uint32_t i = 0; i < kKeptCount; ++i) kept.set(i, log_.number_at(at, kOwedCount + i));
      kept.set_client(key.client);
    }
  }

  // After a round, before its delta is sent: saves the state that the next round starts from. The state before this round stays
  // too, because the host asks for this round again if it loses the delta. A failure is reported by the next StoreReport.
  template <typename Encoder, typename ChangeAt>
  void save_round(const Key& key, const Encoder& encoder, ChangeAt change_at, const float* weights) {
    if constexpr (kRoundCount > 0) {
      has_learned_ = false;
      static_cast<void>(log_.save(store::Kind::kRound, tag(key, trained_run_), kRoundCount, [&](Log::Sink& sink) {
        if constexpr (model::kFeedsBack) encoder.unsent(change_at, [&sink](uint32_t, float rest) { sink(rest); });
        if constexpr (model::kKeepsLocal)
          for (uint32_t i = model::kGlobalCount; i < model::kParameterCount; ++i) sink(weights[i]);
      }));
    }
  }

  // The board has learned by itself: until the next round, or a new session, what the client keeps is in memory alone.
  void note_learned() { has_learned_ = true; }

  // Answers the messages about the store. `keep(names)` is what Keep does.
  template <typename Keep>
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, const Keep& keep) {
    if (type == protocol::Recall::kType) {
      if (size != protocol::Recall::kFixedSize) return Status::kBadLength;
      if constexpr (kRoundCount > 0) run_ = Reader(payload, size).u32();
    } else if (type == protocol::Keep::kType) {
      static_assert(protocol::Keep::kFixedSize == 0, "the payload is nothing but names");
      if (size != 0 && size != store::kNameBytes) return Status::kBadLength;
      const Status status = keep(size == 0 ? nullptr : payload);
      // Where the flash does not take them, the report says so.
      if (status != Status::kOk && log_.condition() < store::Condition::kFull) return status;
    } else if (type == protocol::Look::kType) {
      if (size != protocol::Look::kFixedSize) return Status::kBadLength;
      protocol::Contents contents;
      contents.state = state();
      contents.write_head(out);
      if constexpr (store::kNameBytes > 0) {
        const uint32_t at = log_.weights();
        uint8_t* const names = log_.has_record(at, kWeightsCount) ? out.reserve(store::kNameBytes) : nullptr;
        if (names != nullptr) return log_.read_numbers(at, kNamesAt, names, store::kNameBytes);
      }
      return Status::kOk;
    } else {
      return Status::kUnknownType;
    }
    report().write(out);
    return Status::kOk;
  }

 private:
  static constexpr uint32_t kOwedCount = model::kFeedsBack ? model::kGlobalCount : 0;
  static constexpr uint32_t kKeptCount = model::kKeepsLocal ? model::kParameterCount - model::kGlobalCount : 0;
  static constexpr uint32_t kRoundCount = kOwedCount + kKeptCount;
  // A record of weights: all weights, the statistics, the names of classes.
  static constexpr uint32_t kWeightsBytes = sizeof(float) * model::kParameterCount;
  static constexpr uint32_t kStatisticsAt = model::kParameterCount;
  static constexpr uint32_t kNamesAt = kStatisticsAt + sizeof own_statistics / sizeof(float);
  static constexpr uint32_t kWeightsCount = kNamesAt + store::kNameBytes / sizeof(float);

  static_assert(sizeof own_statistics % sizeof(float) == 0 && store::kNameBytes % sizeof(float) == 0, "whole numbers");

  static_assert(Log::header_bytes() + 2 * Log::record_bytes(kRoundCount) + Log::record_bytes(kWeightsCount) <=
                    Log::kSlotBytes,
                "a slot holds the states of two rounds and all weights");

  store::Tag tag(const Key& key) const { return tag(key, run_); }
  static store::Tag tag(const Key& key, uint32_t run) { return {run, key.seed, key.client, key.round}; }

  Status save_with_names(const float* weights, const Key& key, const uint8_t* names) {
    // The names that are saved are read from the record that this one replaces.
    return log_.save(store::Kind::kWeights, kRoundCount > 0 ? tag(key) : store::Tag{}, kWeightsCount,
                     [this, weights, names](Log::Sink& sink) {
                       sink.put(weights, kWeightsBytes);
                       sink.put(&own_statistics, sizeof own_statistics);
                       static_cast<void>(names);
                       if constexpr (store::kNameBytes > 0) {
                         if (names != nullptr) return sink.put(names, store::kNameBytes);
                         for (uint32_t i = kNamesAt; i < kWeightsCount; ++i)
                           sink(log_.weights() == Log::kNowhere ? 0.0f : log_.number_at(log_.weights(), i));
                       }
                     });
  }

  protocol::StoreState state() const {
    using protocol::StoreState;
    using store::Condition;
    static_assert(static_cast<int>(Condition::kReady) == static_cast<int>(StoreState::kReady) &&
                      static_cast<int>(Condition::kOtherModel) == static_cast<int>(StoreState::kOtherModel) &&
                      static_cast<int>(Condition::kOtherFormat) == static_cast<int>(StoreState::kOtherFormat) &&
                      static_cast<int>(Condition::kDamaged) == static_cast<int>(StoreState::kDamaged) &&
                      static_cast<int>(Condition::kFull) == static_cast<int>(StoreState::kFull) &&
                      static_cast<int>(Condition::kWorn) == static_cast<int>(StoreState::kWorn) &&
                      static_cast<int>(Condition::kMissing) == static_cast<int>(StoreState::kMissing),
                  "the wire has the numbers of Condition");
    return static_cast<StoreState>(log_.condition());
  }

  protocol::StoreReport report() {
    protocol::StoreReport report;
    report.state = state();
    report.saves = log_.saves();
    report.erases = log_.erases();
    if (const uint32_t at = log_.newest_round(); at != Log::kNowhere) {
      const store::Tag newest = log_.tag_at(at);
      report.rounds = newest.run == run_;
      report.round = newest.round;
    }
    report.weights = log_.weights() != Log::kNowhere;
    return report;
  }

  Log log_;
  uint32_t run_ = 0;          // that Recall has named
  bool has_learned_ = false;
  uint32_t trained_run_ = 0;  // of the last Train; a new host may name its run while the program of the former one goes on
};

}  // namespace tmf
