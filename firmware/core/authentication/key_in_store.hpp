// The key of a board with a store: in a page of its own behind the store's slots, so that no weights replace it.
//
// A new key is written behind the one before it, and the last whole one counts, so that a power cut leaves either of them. The
// page is erased when it is full, and when the key is forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crc32.hpp"
#include "protocol.hpp"
#include "store/storage.hpp"

namespace tmf {

// The interface that key_in_memory.hpp describes. The learner's store has opened the storage before.
class BoardKey {
 public:
  static constexpr bool kIsKept = true;

  [[nodiscard]] bool load(uint8_t (&key)[protocol::kKeyBytes]) const {
    bool found = false;
    scan(key, found);
    return found;
  }

  // Fails with kBadState if the flash does not take it.
  Status save(const uint8_t* key) {
    uint8_t former[protocol::kKeyBytes];
    bool found = false;
    uint32_t at = scan(former, found);
    Record record;
    if (at + sizeof record > kEnd) {
      if (const Status status = forget(); status != Status::kOk) return status;
      at = kStart;
    }
    std::memset(&record, 0xFF, sizeof record);
    record.words[0] = kMagic;
    std::memcpy(record.words + 1, key, sizeof former);
    record.words[kCrc] = record.crc();
    if (const Status status = port::storage::program(at, &record, sizeof record); status != Status::kOk) return status;
    return record.read(at) && record.is_whole() ? Status::kOk : Status::kBadState;
  }

  Status forget() {
    for (uint32_t page = 2 * store::kSlotPages; page < store::kPages; ++page)
      if (const Status status = port::storage::erase(page); status != Status::kOk) return status;
    return Status::kOk;
  }

 private:
  static constexpr uint32_t kMagic = 0x4B464D54;  // "TMFK"
  static constexpr uint32_t kErased = 0xFFFFFFFF;
  static constexpr uint32_t kStart = 2 * store::kSlotPages * store::kPageBytes;
  static constexpr uint32_t kEnd = store::kPages * store::kPageBytes;
  static constexpr uint32_t kCrc = 1 + protocol::kKeyBytes / 4;  // place of the CRC

  // The magic number, the key, the CRC of both; then nothing, up to whole units of the flash.
  struct Record {
    uint32_t words[(4 * (kCrc + 1) + store::kWriteBytes - 1) / store::kWriteBytes * store::kWriteBytes / 4];

    bool read(uint32_t at) { return port::storage::read(at, words, sizeof words) == Status::kOk; }
    uint32_t crc() const { return crc32(reinterpret_cast<const uint8_t*>(words), 4 * kCrc); }
    bool is_whole() const { return words[0] == kMagic && words[kCrc] == crc(); }
    bool is_blank() const {
      for (const uint32_t word : words)
        if (word != kErased) return false;
      return true;
    }
  };
  static_assert(kStart + sizeof(Record) <= kEnd, "a page for the key");

  // Writes the last whole key to `key`, if one is `found`; returns where the next one goes, or the page's end.
  static uint32_t scan(uint8_t* key, bool& found) {
    uint32_t at = kStart;
    for (Record record; at + sizeof record <= kEnd && record.read(at) && !record.is_blank(); at += sizeof record) {
      if (!record.is_whole()) continue;
      std::memcpy(key, record.words + 1, protocol::kKeyBytes);
      found = true;
    }
    return at;
  }
};

}  // namespace tmf
