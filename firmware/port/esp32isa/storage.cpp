// The storage of this emulated board: by simulator calls, a file of the machine that runs the emulator is the flash.
//
// The emulator is given the file's path as the second argument of the program.
#if __has_include(<store_facts.hpp>)  // generated for firmware with a store only
#include <cstdint>
#include <cstring>

#include <store_facts.hpp>

#include <store/storage.hpp>

namespace tmf::port::storage {
namespace {

constexpr uint32_t kRead = 3;
constexpr uint32_t kWrite = 4;
constexpr uint32_t kOpen = 5;
constexpr uint32_t kSeek = 19;
constexpr uint32_t kArgumentCount = 1000;
constexpr uint32_t kArgumentBytes = 1001;
constexpr uint32_t kArguments = 1002;
constexpr uint32_t kReadAndWrite = 2;  // flags of open() on Linux
constexpr uint32_t kCreate = 0100;
constexpr uint32_t kFromStart = 0;
constexpr uint32_t kFromEnd = 2;
constexpr uint32_t kFailed = 0xFFFFFFFF;
constexpr uint32_t kBytes = 2 * store::kSlotPages * store::kPageBytes;

uint32_t file = kFailed;

uint32_t simulator_call(uint32_t operation, uint32_t first = 0, uint32_t second = 0, uint32_t third = 0) {
  register uint32_t a2 asm("a2") = operation;
  register uint32_t a3 asm("a3") = first;
  register uint32_t a4 asm("a4") = second;
  register uint32_t a5 asm("a5") = third;
  asm volatile(".byte 0x00, 0x51, 0x00" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");  // simcall
  return a2;
}

uint32_t address_of(const void* data) { return reinterpret_cast<uint32_t>(data); }

Status transfer(uint32_t operation, uint32_t at, const void* data, size_t size) {
  if (file == kFailed || simulator_call(kSeek, file, at, kFromStart) != at) return Status::kBadState;
  return simulator_call(operation, file, address_of(data), size) == size ? Status::kOk : Status::kBadState;
}

Status write_blank(uint32_t from, uint32_t end) {
  uint8_t blank[256];
  std::memset(blank, 0xFF, sizeof blank);
  while (from < end) {
    const uint32_t size = end - from < sizeof blank ? end - from : sizeof blank;
    if (transfer(kWrite, from, blank, size) != Status::kOk) return Status::kBadState;
    from += size;
  }
  return Status::kOk;
}

}  // namespace

Status open() {
  uint32_t arguments[96] = {};  // the addresses of the texts, which follow them
  if (simulator_call(kArgumentCount) < 2 || simulator_call(kArgumentBytes) > sizeof arguments) return Status::kBadState;
  simulator_call(kArguments, address_of(arguments));
  file = simulator_call(kOpen, arguments[1], kReadAndWrite | kCreate, 0644);
  const uint32_t length = file == kFailed ? kFailed : simulator_call(kSeek, file, 0, kFromEnd);
  if (length == kFailed) return Status::kBadState;
  return write_blank(length, kBytes);  // what a new or shorter file lacks is erased flash
}

Status read(uint32_t at, void* to, size_t size) { return transfer(kRead, at, to, size); }

Status program(uint32_t at, const void* from, size_t size) { return transfer(kWrite, at, from, size); }

Status erase(uint32_t page) { return write_blank(page * store::kPageBytes, (page + 1) * store::kPageBytes); }

}  // namespace tmf::port::storage

#endif
