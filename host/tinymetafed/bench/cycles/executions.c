// A QEMU plugin that counts how often each instruction is executed and jumps between two executions of a marked address.
//
// Arguments: mark=ADDRESS of a function that the measured code calls at its beginning and at its end; start=ADDRESS and
// bytes=NUMBER of the code to count; out=FILE. At every second call of the function, the plugin appends to the file a line
// "address executed jumped" for each executed instruction (the address in hexadecimal) and an empty line.
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The part of QEMU's plugin interface, version 1, that is used here; declared here because Debian has no package of its header.
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*on_execution)(unsigned int vcpu, void* data);
enum { kNoRegisters = 0, kAddU64 = 0 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb* block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn* instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn* instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb* block, on_execution call, int flags, void* data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn* instruction, on_execution call, int flags, void* data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn* instruction, int operation, void* counter,
                                                uint64_t add);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { kStep = 2 };  // the instruction set's finest alignment

struct Count {
  uint64_t executed;
  uint64_t jumped;
};

// A block of instructions that QEMU translates at once; only the last one may jump.
struct Block {
  uint64_t first;
  uint64_t last;
  uint64_t end;
};

static struct Count* counts;
static uint64_t start, size, mark;
static FILE* out;
static const struct Block* previous;
static bool counting;

static struct Count* at(uint64_t address) {
  return address >= start && address - start < size ? &counts[(address - start) / kStep] : NULL;
}

static void arrived(unsigned int vcpu, void* data) {
  (void)vcpu, (void)data;
  if (counting) {
    for (uint64_t i = 0; i < size / kStep; ++i)
      if (counts[i].executed != 0)
        fprintf(out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", start + i * kStep, counts[i].executed, counts[i].jumped);
    fputc('\n', out);
    fflush(out);  // the host reads the file while the emulator runs
  }
  memset(counts, 0, size / kStep * sizeof *counts);
  counting = !counting;
}

static void entered(unsigned int vcpu, void* data) {
  (void)vcpu;
  const struct Block* block = data;
  if (previous != NULL && previous->end != block->first) {
    struct Count* count = at(previous->last);
    if (count != NULL) ++count->jumped;
  }
  previous = block;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
  (void)id;
  struct Block* block = malloc(sizeof *block);  // never freed: the translated code refers to it
  if (block == NULL) abort();
  const size_t n = qemu_plugin_tb_n_insns(tb);
  const struct qemu_plugin_insn* last = qemu_plugin_tb_get_insn(tb, n - 1);
  block->first = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
  block->last = qemu_plugin_insn_vaddr(last);
  block->end = block->last + qemu_plugin_insn_size(last);
  qemu_plugin_register_vcpu_tb_exec_cb(tb, entered, kNoRegisters, block);
  for (size_t i = 0; i < n; ++i) {
    struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(tb, i);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    if (address == mark) qemu_plugin_register_vcpu_insn_exec_cb(instruction, arrived, kNoRegisters, NULL);
    struct Count* count = at(address);
    if (count != NULL) qemu_plugin_register_vcpu_insn_exec_inline(instruction, kAddU64, &count->executed, 1);
  }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc, char** argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    const char* value = strchr(argv[i], '=');
    if (value == NULL) return 1;
    ++value;
    if (strncmp(argv[i], "mark=", 5) == 0) mark = strtoull(value, NULL, 0);
    if (strncmp(argv[i], "start=", 6) == 0) start = strtoull(value, NULL, 0);
    if (strncmp(argv[i], "bytes=", 6) == 0) size = strtoull(value, NULL, 0);
    if (strncmp(argv[i], "out=", 4) == 0) out = fopen(value, "w");
  }
  counts = calloc(size / kStep + 1, sizeof *counts);
  if (out == NULL || counts == NULL) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  return 0;
}
