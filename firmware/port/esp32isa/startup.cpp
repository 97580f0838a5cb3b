// Start-up and fault report of the Xtensa board: static data, painted stack, memory protection, main().
#include <cstdint>

#include "../bare_metal/startup.hpp"
#include "registers.hpp"

extern "C" {
// Defined by boards/esp32isa.ld; only their addresses are meaningful.
extern uint8_t board_flash_start, board_flash_bytes, board_ram_start, board_ram_bytes;
}

namespace tmf::esp32isa {
namespace {

uint32_t address_of(const void* symbol) { return reinterpret_cast<uint32_t>(symbol); }

// The page table has a word for every page of 4 KB: the page's address and its access rights. It lies outside the memory that
// the board claims. The core reads the word of page n at kTableView + 4 n.
constexpr uint32_t kPageBytes = 4096;
constexpr uint32_t kTable = 0x00E00000;
constexpr uint32_t kTableView = 0x10000000;
constexpr uint32_t kReachOfTablePage = kPageBytes / sizeof(uint32_t) * kPageBytes;  // 4 MB
enum Permission : uint32_t { kRead = 0, kReadWrite = 2, kNothing = 15 };

uint32_t table_offset(uint32_t address) { return address / kPageBytes * sizeof(uint32_t); }

void permit(uint32_t start, uint32_t bytes, Permission permission) {
  for (uint32_t page = start; page != start + bytes; page += kPageBytes) {
    *reinterpret_cast<uint32_t*>(kTable + table_offset(page)) = page | permission;
  }
}

// Maps the table's words for the 4 MB from `start` on, so that the core can read them. `way` is the entry of the translation
// buffer (TLB) that holds the mapping.
void show_table(uint32_t start, uint32_t way) {
  const uint32_t offset = table_offset(start);
  asm volatile("wdtlb %0, %1" ::"r"((kTable + offset) | kRead), "r"((kTableView + offset) | way));
}

// The emulator has 16 MB, the board claims less: without protection an overrun or a null pointer would go unnoticed.
void protect_memory() {
  const uint32_t flash = address_of(&board_flash_start);
  const uint32_t ram = address_of(&board_ram_start);
  permit(flash, kReachOfTablePage, kNothing);
  permit(ram, kReachOfTablePage, kNothing);
  permit(flash, address_of(&board_flash_bytes), kRead);
  permit(ram, address_of(&board_ram_bytes), kReadWrite);
  permit(kUniqueIdAddress, kPageBytes, kRead);
  show_table(flash, 7);
  show_table(ram, 8);
  register uint32_t a2 asm("a2") = kTableView;
  asm volatile(".byte 0x20, 0x53, 0x13" ::"r"(a2));  // wsr a2, ptevaddr: ESP32's assembler does not know the register
  // After reset, the first 512 MB are one page with all rights. Removing it from the data TLB makes the table apply to loads
  // and stores. Instruction fetches keep it: outside the program they find an illegal instruction.
  asm volatile("idtlb %0\n dsync" ::"r"(0x00000000 | 6) : "memory");
}

}  // namespace

extern "C" [[noreturn]] void start() {
  bare_metal::prepare_memory();
  protect_memory();
  bare_metal::run();
  for (;;) asm volatile("waiti 15");
}

namespace {

// Simulator call: the emulator carries out `operation`.
void simulator_call(uint32_t operation, uint32_t first, uint32_t second, uint32_t third) {
  register uint32_t a2 asm("a2") = operation;
  register uint32_t a3 asm("a3") = first;
  register uint32_t a4 asm("a4") = second;
  register uint32_t a5 asm("a5") = third;
  asm volatile(".byte 0x00, 0x51, 0x00" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");  // simcall
}
constexpr uint32_t kExit = 1;
constexpr uint32_t kWrite = 4;
constexpr uint32_t kStandardError = 2;

template <uint32_t kSize>
void print(const char (&text)[kSize]) {
  simulator_call(kWrite, kStandardError, address_of(text), kSize - 1);
}

void print_hex(uint32_t value) {
  char digits[] = "00000000";
  for (int i = 7; i >= 0; --i, value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  print(digits);
}

}  // namespace

extern "C" [[noreturn]] void report_fault(uint32_t cause, uint32_t address, uint32_t pc) {
  const bool stack_overflow = address < address_of(&stack_start) && address >= address_of(&stack_start) - kPageBytes;
  if (stack_overflow) {
    print("esp32isa: firmware stopped: stack overflow");
  } else {
    print("esp32isa: firmware stopped: fault");
  }
  print(", cause 0x");
  print_hex(cause);
  print(", address 0x");
  print_hex(address);
  print(", pc 0x");
  print_hex(pc);
  print("\n");
  simulator_call(kExit, 1, 0, 0);
  for (;;) {
  }
}

}  // namespace tmf::esp32isa
