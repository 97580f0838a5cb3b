// Download by difference: the version of the global weights that the board received last, and a new version as what differs from it.
//
// The board keeps the received weights anyway, because its delta is relative to them. A cell is the bits of one weight, or,
// with int8, of the scale before a tensor. A difference has an entry for each cell whose bits change:
//   gap: the distance from the lowest cell that is possible, in the coding of a delta's gaps.
//   Of a weight: one bit, 1 for a step down; then the magnitude of the step - 1 in Rice code, or kStepEscape ones and that number
//   in as many bits as the weight has. The new bits are the old ones plus the step, modulo that width. A step is a unit in the last
//   place, so a higher exponent means fewer steps: the Rice parameter is `steps` minus the exponent of the old weight.
//   Of a scale: its 32 new bits.
//
// The fingerprint of a version is a polynomial of its cells modulo 2^64 (Karp and Rabin, 1987). A difference to another version is
// refused before it changes anything, and its result is compared before anything is trained with it.
//
// The generated held_version.hpp includes this file after difference_facts.hpp, which has the constants and the messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bit_reader.hpp"
#include "bytes.hpp"
#include "math.hpp"
#include "protocol.hpp"
#include "sample_check.hpp"

namespace tmf {

class HeldVersion {
 public:
  static constexpr bool kTakesDifferences = true;

  // A Load overwrites the received weights.
  void forget() {
    stage_ = Stage::kNone;
    is_by_difference_ = false;
  }

  // A Load has brought all weights.
  template <typename Downlink>
  void hold(const Downlink& received) {
    version_ = fingerprint(received);
    stage_ = Stage::kHeld;
  }

  // Answers one of the messages of a download by difference. `owner` is the learner, whose cycle a difference begins. `detail`
  // becomes that of a refusal.
  template <typename Owner>
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail, Owner& owner) {
    switch (type) {
      case protocol::Difference::kType: {
        protocol::Difference request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        if (const Status status = begin(request, detail, owner); status != Status::kOk) return status;
        break;
      }
      case protocol::MoreDifference::kType: {
        protocol::MoreDifference request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        if (const Status status = continue_with(request, detail, owner); status != Status::kOk) return status;
        break;
      }
      case protocol::AskHeld::kType: {
        protocol::AskHeld request;
        if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
        protocol::Held answer;
        answer.whole = stage_ == Stage::kHeld ? 1 : 0;
        for (size_t i = 0; i < kBytes && stage_ == Stage::kHeld; ++i) answer.version[i] = static_cast<uint8_t>(version_ >> (8 * i));
        answer.write(out);
        return Status::kOk;
      }
      default: return Status::kUnknownType;
    }
    protocol::Taken answer;
    answer.next = rank_;
    answer.write(out);
    return Status::kOk;
  }

 private:
  static constexpr size_t kBytes = sizeof protocol::Held::version;

  enum class Stage : uint8_t {
    kNone,      // no whole version
    kHeld,      // the received weights are `version_`
    kArriving,  // entries of a difference have changed some of them
    kWrong,     // after the last entry they were not the version that the host meant
  };

  template <typename Owner>
  Status begin(const protocol::Difference& request, uint32_t& detail, Owner& owner) {
    using Downlink = typename Owner::Downlink;
    if (!owner.has_session_) return Status::kBadState;
    if (owner.has_token_ && request.token < owner.token_) {
      detail = owner.token_;
      return Status::kBadToken;
    }
    if (owner.has_token_ && request.token == owner.token_) return standing();
    if (stage_ != Stage::kHeld || version_ != number(request.base)) return Status::kBadState;
    const bool is_empty = request.count == 0;
    if (request.entries > Downlink::kCells || request.count > request.entries || is_empty != (request.entries == 0))
      return Status::kBadValue;
    const Coder coder{request.gaps, request.steps};
    uint32_t position = 0;
    if (!coder.read(owner.received_, request.data, request.data_size, request.count, position, false))
      return Status::kBadValue;

    owner.begin_cycle(request.token);
    owner.loaded_ = 0;
    stage_ = Stage::kArriving;
    is_by_difference_ = true;
    coder_ = coder;
    result_ = number(request.result);
    entries_ = request.entries;
    rank_ = position_ = 0;
    return take(request.data, request.data_size, request.count, owner);
  }

  template <typename Owner>
  Status continue_with(const protocol::MoreDifference& request, uint32_t& detail, Owner& owner) {
    if (!owner.has_token_) return Status::kBadState;
    if (request.token != owner.token_) {
      detail = owner.token_;
      return Status::kBadToken;
    }
    if (const Status status = standing(); status != Status::kOk) return status;
    if (request.rank < rank_) return Status::kOk;
    if (request.rank > rank_) {
      detail = rank_;
      return Status::kBadOffset;
    }
    uint32_t position = position_;
    if (request.count > entries_ - rank_ ||
        !coder_.read(owner.received_, request.data, request.data_size, request.count, position, false))
      return Status::kBadValue;
    return take(request.data, request.data_size, request.count, owner);
  }

  // What a repeated message is answered with: how the difference of this cycle stands.
  Status standing() const {
    if (!is_by_difference_) return Status::kBadState;
    return stage_ == Stage::kWrong ? wrong_ : Status::kOk;
  }

  // Takes entries that were checked; after the last one, compares the result with the version that the host meant.
  template <typename Owner>
  Status take(const uint8_t* data, size_t size, uint32_t count, Owner& owner) {
    auto& received = owner.received_;
    coder_.read(received, data, size, count, position_, true);
    rank_ += count;
    if (rank_ < entries_) return Status::kOk;
    version_ = fingerprint(received);
    received.copy_to(owner.parameters_);
    wrong_ = version_ != result_                                   ? Status::kBadValue
             : !all_finite(owner.parameters_, Owner::kGlobalCount) ? Status::kNotFinite
                                                                   : Status::kOk;
    stage_ = wrong_ == Status::kOk ? Stage::kHeld : Stage::kWrong;
    if (wrong_ != Status::kOk) return wrong_;
    owner.loaded_ = Owner::kGlobalCount;
    owner.end_load();
    return Status::kOk;
  }

  template <typename Downlink>
  static uint64_t fingerprint(const Downlink& received) {
    uint64_t sum = 0;
    received.each_cell([&](uint32_t bits) { sum = (sum + bits) * difference::kFingerprintFactor; });
    return sum;
  }

  static uint64_t number(const uint8_t (&bytes)[kBytes]) {
    uint64_t value = 0;
    for (size_t i = 0; i < kBytes; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
    return value;
  }

  // The coding of one difference.
  struct Coder {
    protocol::Coding gaps = protocol::Coding::kRice0;
    uint16_t steps = 0;

    template <typename Downlink>
    uint32_t step_parameter(uint32_t old) const {
      const uint32_t exponent = Downlink::exponent(old), most = Downlink::kCellBits - 1;
      const uint32_t parameter = steps > exponent ? steps - exponent : 0;
      return parameter < most ? parameter : most;
    }

    // Reads `count` entries from cell `position` on, which moves behind the last one, and writes them if `writes`. False if the
    // bytes hold other than so many entries.
    template <typename Downlink>
    bool read(Downlink& received, const uint8_t* data, size_t size, uint32_t count, uint32_t& position, bool writes) const {
      BitReader in(data, size);
      for (uint32_t i = 0; i < count; ++i, ++position) {
        if (gaps != protocol::Coding::kRun)
          position += in.rice(static_cast<uint32_t>(gaps), protocol::kRiceEscape, protocol::kRiceRawBits);
        if (position >= Downlink::kCells) return false;
        uint32_t bits;
        if (Downlink::is_scale(position)) {
          bits = in.take(32);
        } else {
          const uint32_t old = received.cell(position);
          const bool is_down = in.take(1) == 1;
          const uint32_t step = in.rice(step_parameter<Downlink>(old), difference::kStepEscape, Downlink::kCellBits) + 1;
          bits = old + (is_down ? 0u - step : step);  // the cell keeps as many bits as it has
        }
        if (writes) received.set_cell(position, bits);
      }
      return in.is_used_up();
    }
  };

  uint64_t version_ = 0;  // of the received weights, while they are whole
  uint64_t result_ = 0;   // of the difference that arrives
  uint32_t entries_ = 0;
  uint32_t rank_ = 0;      // entries taken
  uint32_t position_ = 0;  // the cell after the last of them
  Coder coder_;
  Status wrong_ = Status::kOk;
  Stage stage_ = Stage::kNone;
  bool is_by_difference_ = false;  // the cycle in progress began with a difference
};

}  // namespace tmf
