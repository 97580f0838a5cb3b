// A log of records in two slots of flash that survives a power cut at every write and erase.
//
// Saves are appended to the active slot. When it is full, the other slot is erased, gets the records that are still needed and
// the new one, and last its header, which makes it the active slot. So at any moment one slot is whole, and a record counts
// only with its CRC, which is written last. A slot whose end is not clean, after a power cut, is not written to again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crc32.hpp"
#include "protocol.hpp"

namespace tmf::store {

constexpr uint32_t kMagic = 0x53464D54;  // "TMFS"
constexpr uint32_t kErased = 0xFFFFFFFF;
constexpr uint32_t kRight = 0x2144DF1C;  // the CRC of bytes that their own CRC follows
constexpr uint32_t kFormat = 2;          // raise it when slots or records are laid out in another way

// What open() has found, or the last save has met. The wire's StoreState has the same values.
enum class Condition : uint8_t {
  kEmpty,        // nothing is saved yet
  kReady,        // records are there
  kOtherModel,   // records of another model; unused, and replaced by the first save
  kOtherFormat,  // records of another version of this format; likewise
  kDamaged,      // neither records nor erased flash; likewise
  kFull,         // the last record does not fit beside those that are needed
  kWorn,         // the flash did not take the last record; nothing is written until the next start
  kMissing,      // the port has no storage
};

enum class Kind : uint8_t {
  kRound = 1,    // the state that a client keeps after a round; the last two of different rounds are needed
  kWeights = 2,  // all weights of the model; the last is needed
};

// Which run, client and round a record belongs to. `seed`, `client` and `round` are those of Train.
struct Tag {
  uint32_t run;
  uint32_t seed;
  uint32_t client;
  uint32_t round;

  // Whether both belong to one client of one run.
  bool same_client(const Tag& other) const { return run == other.run && seed == other.seed && client == other.client; }
  bool is_before(const Tag& other) const { return same_client(other) && round < other.round; }
};

// The tag at the start of a record, in a log that has records of rounds.
template <bool kHasTag>
struct Tagged {
  Tag tag;
};
template <>
struct Tagged<false> {};

// Records of float32 numbers in flash. `Flash` has the constants kPageBytes and kWriteBytes, and
//   Status read(uint32_t at, void* to, size_t size);
//   Status program(uint32_t at, const void* from, size_t size);  // of erased flash; whole units of kWriteBytes
//   Status erase(uint32_t page);                                 // sets all bytes of a page to 0xFF
// where `at` counts bytes from the first of 2 * kSlotPages pages. Numbers are in the machine's own byte order. A log that
// `kHasRounds` is false for has records of weights only, without tags, and no code for others.
template <typename Flash, uint32_t kSlotPages, bool kHasRounds = true>
class Log {
 public:
  static constexpr uint32_t kSlotBytes = kSlotPages * Flash::kPageBytes;
  static constexpr uint32_t kNowhere = 0;  // in place of a record's position: a slot begins with its header
  static constexpr uint32_t kChunk = 32;   // bytes read or programmed at once

  static constexpr uint32_t kDry = UINT32_MAX;  // in place of a position: nothing is programmed, or no longer

  // Programs numbers as they come, and computes their CRC. Where the flash is written in units of more than a number, it fills
  // a chunk first.
  class Sink {
   public:
    // With `at` = kDry, it only computes the CRC.
    [[gnu::noinline]] Sink(Flash& flash, uint32_t at) : flash_(flash), at_(at) {}

    // `size` is a multiple of 4.
    void put(const void* from, uint32_t size) {
      const auto* bytes = static_cast<const uint8_t*>(from);
      crc_ = crc32(bytes, size, crc_);
      if constexpr (kFillsChunk) {
        for (uint32_t i = 0; i < size; ++i) {
          chunk_[used_++] = bytes[i];
          if (used_ == kChunk) flush();
        }
      } else {
        write(bytes, size);
      }
    }

    void operator()(float number) { put(&number, sizeof number); }

    uint32_t crc() const { return crc_; }

    // Ends the record with its CRC. Returns whether the flash took all of it.
    bool close() {
      const uint32_t crc = crc_;
      put(&crc, sizeof crc);
      if constexpr (kFillsChunk)
        while (used_ % Flash::kWriteBytes != 0) chunk_[used_++] = 0xFF;
      if constexpr (kFillsChunk) flush();
      return at_ != kDry;
    }

   private:
    static constexpr bool kFillsChunk = Flash::kWriteBytes > sizeof(float);

    void flush() {
      if (used_ > 0) write(chunk_, used_);
      used_ = 0;
    }

    void write(const uint8_t* bytes, uint32_t size) {
      if (at_ != kDry) at_ = flash_.program(at_, bytes, size) == Status::kOk ? at_ + size : kDry;
    }

    Flash& flash_;
    uint32_t at_;
    uint32_t crc_ = 0;
    uint32_t used_ = 0;
    uint8_t chunk_[kFillsChunk ? kChunk : 1];
  };

  constexpr explicit Log(const Flash& flash = Flash()) : flash_(flash) {}

  // Bytes in flash of a record with `count` numbers.
  static constexpr uint32_t record_bytes(uint32_t count) { return aligned(sizeof(Head) + 4 * (count + 1)); }
  static constexpr uint32_t header_bytes() { return aligned(sizeof(Header)); }

  // Reads the flash and finds the records of `model`, which must stay valid. Writes nothing.
  void open(const uint8_t (&model)[8]) {
    model_ = model;
    active_end_ = 0;
    sequence_ = generation_ = 0;
    newest_ = previous_ = weights_ = kNowhere;
    condition_ = Condition::kEmpty;
    for (uint32_t slot = 0; slot < 2; ++slot) {
      uint32_t generation = 0;
      const Condition found = inspect(slot, generation);
      if (found == Condition::kReady) {
        if (active_end_ != 0 && !is_later(generation, generation_)) continue;
        active_end_ = start_of_slot(slot + 1);
        generation_ = generation;
      }
      // If one slot is ready, the other does not matter; if neither is, the state of the first slot counts, unless it is
      // empty.
      if (found == Condition::kReady || condition_ == Condition::kEmpty) condition_ = found;
    }
    if (active_end_ != 0) scan();
  }

  Condition condition() const { return condition_; }
  uint32_t saves() const { return sequence_; }  // records saved so far
  uint32_t erases() const { return generation_; }  // erases of a slot so far: each slot has had half of them

  // Position of the client's newest state of a round before `tag.round`; kNowhere if there is none.
  uint32_t round_before(const Tag& tag) {
    if (!kHasRounds) return kNowhere;
    if (newest_ != kNowhere && tag_at(newest_).is_before(tag)) return newest_;
    return previous_ != kNowhere && tag_at(previous_).is_before(tag) ? previous_ : kNowhere;
  }

  // Position of the newest state of a round of any client; kNowhere if there is none.
  uint32_t newest_round() const { return kHasRounds ? newest_ : kNowhere; }

  // Position of the last weights; kNowhere if there are none.
  uint32_t weights() const { return weights_; }

  Tag tag_at(uint32_t at) {
    if constexpr (kHasRounds) return head_at(at).tag;
    return {};
  }

  // Whether the record at `at`, which may be kNowhere, is whole and has `count` numbers.
  bool has_record(uint32_t at, uint32_t count) {
    return has_numbers(at, count, {nullptr, nullptr});
  }

  // Number `i` of a record; 0 if the flash cannot be read.
  float number_at(uint32_t at, uint32_t i) {
    float number = 0;
    static_cast<void>(read_numbers(at, i, &number, sizeof number));
    return number;
  }

  // Reads `size` bytes of a record's numbers, from number `i` on.
  Status read_numbers(uint32_t at, uint32_t i, void* to, uint32_t size) {
    return flash_.read(at + sizeof(Head) + 4 * i, to, size);
  }

  // Saves a record of `count` numbers; weights only if they are not saved already. `give(sink)` calls sink(number) once for
  // each, and does so several times. Fails with kTooLarge (condition kFull) or kBadState (kWorn, kMissing); then all earlier
  // records are still there.
  template <typename Give>
  Status save(Kind kind, const Tag& tag, uint32_t count, const Give& give) {
    if (header_bytes() + record_bytes(count) <= kSlotBytes)
      return save_record(kind, kHasRounds ? &tag : nullptr, count, {&give, [](const void* context, Sink& sink) {
                                              (*static_cast<const Give*>(context))(sink);
                                            }});
    condition_ = Condition::kFull;
    return Status::kTooLarge;
  }

  void set_missing() { condition_ = Condition::kMissing; }

 private:
  struct Header {
    uint32_t magic;
    uint32_t format;
    uint8_t model[8];
    uint32_t generation;  // one more than in the slot that was begun before
    uint32_t crc;         // of the fields above
  };
  struct Head : Tagged<kHasRounds> {
    uint32_t kind_and_count;  // the kind in the highest byte, which is 0xFF where nothing is written
    uint32_t sequence;
    // Before both the tag, if there is one; then `count` numbers, and the CRC of all that.

    Kind kind() const { return static_cast<Kind>(kind_and_count >> 24); }
    uint32_t count() const { return kind_and_count & 0x00FFFFFF; }
  };
  static constexpr uint32_t kMostNeeded = kHasRounds ? 2 : 0;  // records beside a new one
  static_assert((Flash::kWriteBytes & (Flash::kWriteBytes - 1)) == 0 && Flash::kWriteBytes <= kChunk, "whole units in a chunk");
  static_assert(Flash::kPageBytes % kChunk == 0 && kSlotPages > 0, "whole chunks in a page");

  static constexpr uint32_t aligned(uint32_t size) { return (size + Flash::kWriteBytes - 1) / Flash::kWriteBytes * Flash::kWriteBytes; }
  static constexpr uint32_t start_of_slot(uint32_t slot) { return slot * kSlotBytes; }

  // Gives a record's numbers to a sink: a reference to any function that does it.
  struct Numbers {
    const void* context;
    void (*give)(const void* context, Sink& sink);
  };

  [[gnu::noinline]] Status save_record(Kind kind, const Tag* tag, uint32_t count, const Numbers& numbers) {
    if (condition_ >= Condition::kWorn) return Status::kBadState;
    if (kind == Kind::kWeights && has_numbers(weights_, count, numbers)) return Status::kOk;
    const uint32_t size = record_bytes(count);
    // Needed beside the new record: weights, and of rounds the state before a new one, because the host may ask for that round
    // again.
    uint32_t needed[kMostNeeded + 1] = {};
    if constexpr (kHasRounds) {
      uint32_t total = header_bytes() + size;
      const bool is_round = kind == Kind::kRound;
      needed[0] = is_round ? round_before(*tag) : previous_;
      needed[1] = is_round ? weights_ : newest_;
      for (const uint32_t at : needed)
        if (at != kNowhere) total += record_bytes(head_at(at).count());
      if (total > kSlotBytes) {
        condition_ = Condition::kFull;
        return Status::kTooLarge;
      }
    }
    Head head;
    head.kind_and_count = static_cast<uint32_t>(kind) << 24 | count;
    head.sequence = sequence_ + 1;
    if constexpr (kHasRounds) head.tag = *tag;
    bool saved = false;
    const uint32_t at = end_;
    if (at + size <= active_end_) {
      end_ = active_end_;  // if this write fails, nothing is written behind it
      saved = append(at, head, numbers);
      if (saved) {
        adopt(head, at);
        end_ = at + size;
      }
    }
    saved = saved || move(head, needed, numbers);
    condition_ = Condition::kWorn;
    if (!saved) return Status::kBadState;
    sequence_ = head.sequence;
    condition_ = Condition::kReady;
    return Status::kOk;
  }

  // As has_record; with `numbers`, whether the record has them. They are compared by the record's CRC.
  bool has_numbers(uint32_t at, uint32_t count, const Numbers& numbers) {
    Head head;
    if (at == kNowhere || !is_whole(at, active_end_, head) || head.count() != count) return false;
    if (numbers.give == nullptr) return true;
    Sink sink(flash_, kDry);
    sink.put(&head, sizeof head);
    numbers.give(numbers.context, sink);
    uint32_t crc = 0;
    return read_numbers(at, count, &crc, sizeof crc) == Status::kOk && crc == sink.crc();
  }

  // Whether a counter that begins again at 0 after 2^32 - 1 was `one` after it was `other`.
  static bool is_later(uint32_t one, uint32_t other) { return one - other - 1 < UINT32_MAX / 2; }

  // What is at the start of a slot: kReady with its header, kEmpty, or why it cannot be used.
  Condition inspect(uint32_t slot, uint32_t& generation) {
    const uint32_t at = start_of_slot(slot);
    Header header;
    if (flash_.read(at, &header, sizeof header) != Status::kOk) return Condition::kMissing;
    if (header.magic == kErased) return Condition::kEmpty;
    if (header.magic != kMagic) return Condition::kDamaged;
    if (header.format != kFormat) return Condition::kOtherFormat;
    if (crc32(reinterpret_cast<const uint8_t*>(&header), sizeof header) != kRight) return Condition::kDamaged;
    for (uint32_t i = 0; i < sizeof header.model; ++i)
      if (header.model[i] != model_[i]) return Condition::kOtherModel;
    generation = header.generation;
    return Condition::kReady;
  }

  // Finds the records of the active slot, and where the next one goes.
  [[gnu::always_inline]] void scan() {
    const uint32_t end = active_end_;
    const uint32_t first = end - kSlotBytes + header_bytes();
    uint32_t at = first;
    Head head;
    while (at + record_bytes(0) <= end && is_whole(at, end, head)) {
      adopt(head, at);
      sequence_ = head.sequence;
      at += record_bytes(head.count());
    }
    end_ = is_blank(at, end) ? at : end;
    if (at == first) condition_ = Condition::kDamaged;  // a slot is begun with a record
  }

  // Whether the flash from `at` to `end` is erased.
  bool is_blank(uint32_t at, uint32_t end) {
    for (uint32_t size; at < end; at += size) {
      uint8_t chunk[kChunk];
      size = end - at < kChunk ? end - at : kChunk;
      if (flash_.read(at, chunk, size) != Status::kOk) return false;
      for (uint32_t i = 0; i < size; ++i)
        if (chunk[i] != 0xFF) return false;
    }
    return true;
  }

  Head head_at(uint32_t at) {
    Head head{};
    static_cast<void>(flash_.read(at, &head, sizeof head));
    return head;
  }

  // Whether a whole record is at `at`, with its CRC.
  bool is_whole(uint32_t at, uint32_t end, Head& head) {
    if (flash_.read(at, &head, sizeof head) != Status::kOk) return false;
    if (head.kind() != Kind::kWeights && !(kHasRounds && head.kind() == Kind::kRound)) return false;
    if (record_bytes(head.count()) > end - at) return false;
    const uint32_t size = sizeof(Head) + 4 * (head.count() + 1);
    uint32_t crc = 0;
    for (uint32_t done = 0, part; done < size; done += part) {
      uint8_t chunk[kChunk];
      part = size - done < kChunk ? size - done : kChunk;
      if (flash_.read(at + done, chunk, part) != Status::kOk) return false;
      crc = crc32(chunk, part, crc);
    }
    return crc == kRight;
  }

  // Notes the position of a record that was written after all others.
  void adopt(const Head& head, uint32_t at) {
    if constexpr (kHasRounds) {
      if (head.kind() == Kind::kRound) {
        previous_ = round_before(head.tag);
        newest_ = at;
        return;
      }
    }
    weights_ = at;
  }

  // Writes a record and reads it again.
  bool append(uint32_t at, const Head& head, const Numbers& numbers) {
    Sink sink(flash_, at);
    sink.put(&head, sizeof head);
    numbers.give(numbers.context, sink);
    Head written;
    return sink.close() && is_whole(at, at + record_bytes(head.count()), written);
  }

  // Begins the other slot with the records that are needed and the new one, and makes it the active slot.
  [[gnu::always_inline]] bool move(const Head& head, const uint32_t (&needed)[kMostNeeded + 1], const Numbers& numbers) {
    const uint32_t slot = active_end_ == kSlotBytes ? 1 : 0;
    for (uint32_t page = 0; page < kSlotPages; ++page)
      if (flash_.erase(slot * kSlotPages + page) != Status::kOk) return false;
    const uint32_t start = start_of_slot(slot);
    if (!is_blank(start, start + kSlotBytes)) return false;
    uint32_t at = start + header_bytes();
    uint32_t moved[kMostNeeded + 1] = {};
    if constexpr (kHasRounds) {
      for (uint32_t i = 0; i < kMostNeeded; ++i) {
        Head each;
        // A copy gets a CRC of its own, so what flash has lost since the last reset must not be copied.
        if (needed[i] == kNowhere || !is_whole(needed[i], active_end_, each)) continue;
        const Copied copied = {this, needed[i], each.count()};
        if (!append(at, each, {&copied, give_copied})) return false;
        moved[i] = at;
        at += record_bytes(each.count());
      }
    }
    if (!append(at, head, numbers)) return false;
    // The header comes last: until it is there, the other slot counts.
    if (!begin(slot)) return false;
    if constexpr (kHasRounds) {
      const bool is_round = head.kind() == Kind::kRound;
      previous_ = moved[0];
      newest_ = is_round ? at : moved[1];
      weights_ = is_round ? moved[1] : at;
    } else {
      weights_ = at;
    }
    active_end_ = start + kSlotBytes;
    ++generation_;
    end_ = at + record_bytes(head.count());
    return true;
  }

  // The numbers of a record of the active slot.
  struct Copied {
    Log* log;
    uint32_t at;
    uint32_t count;
  };
  static void give_copied(const void* context, Sink& sink) {
    const Copied& copied = *static_cast<const Copied*>(context);
    for (uint32_t i = 0; i < copied.count; ++i) sink(copied.log->number_at(copied.at, i));
  }

  [[gnu::always_inline]] bool begin(uint32_t slot) {
    const uint32_t first[2] = {kMagic, kFormat}, generation = generation_ + 1;
    Sink sink(flash_, start_of_slot(slot));
    sink.put(first, sizeof first);
    sink.put(model_, sizeof Header::model);
    sink.put(&generation, sizeof generation);
    uint32_t written = 0;
    return sink.close() && inspect(slot, written) == Condition::kReady && written == generation;
  }

  // All zero at first, so that a static log takes no flash and needs no constructor.
  Flash flash_;
  const uint8_t* model_ = nullptr;
  Condition condition_ = Condition::kEmpty;
  uint32_t active_end_ = 0;  // of the active slot; 0 before the first save
  uint32_t end_ = 0;         // where the next record goes
  uint32_t generation_ = 0;
  uint32_t sequence_ = 0;  // of the last record
  // Positions of the records that are needed.
  uint32_t newest_ = kNowhere;
  uint32_t previous_ = kNowhere;
  uint32_t weights_ = kNowhere;
};

}  // namespace tmf::store
