// Fuzz harness: the whole firmware core with a line in memory. After every frame it checks the protocol's numbered invariants
// (docs/protocol.md).
//
// An input selects one of several stored states of the device, to which it applies operations: raw bytes, whole frames,
// damaged frames, training steps. Or it selects the frame decoder and the reader of levels, or the delta codec, which are tested in
// heap buffers of the exact size. libFuzzer calls LLVMFuzzerTestOneInput; with STANDALONE, main() makes the inputs from a seed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "entropy.hpp"
#include "levels_alone.hpp"
#include "operations.hpp"
#include "parts_alone.hpp"
#include "port.hpp"
#include "stored_states.hpp"

// --- The board contract, in memory ---

namespace tmf::port {
void init(int, char**) {}
size_t read(uint8_t*, size_t) { return 0; }
void write(const uint8_t* from, size_t size) { answered.insert(answered.end(), from, from + size); }
void wait() {}
uint32_t ticks() { return now += 7; }
void unique_id(uint8_t (&id)[8]) { std::memcpy(id, "fuzzfuzz", 8); }
}  // namespace tmf::port

#if HAS_PRIVACY
namespace tmf::port {

// The same bytes for the same input.
bool entropy(uint8_t* to, size_t size) {
  if (entropy_fails) return false;
  ++secrets;
  for (size_t i = 0; i < size; ++i) to[i] = static_cast<uint8_t>(31 * secrets + 7 * i);
  return true;
}

}  // namespace tmf::port
#endif

#if HAS_STORE
namespace tmf::port::storage {

Status open() {
  flash.assign(2 * store::kSlotPages * store::kPageBytes, 0xFF);
  return Status::kOk;
}

Status read(uint32_t at, void* to, size_t size) {
  check(size <= flash.size() && at <= flash.size() - size, "I1", "the store has read beyond its flash");
  std::memcpy(to, flash.data() + at, size);
  return Status::kOk;
}

Status program(uint32_t at, const void* from, size_t size) {
  check(size <= flash.size() && at <= flash.size() - size && (at | size) % store::kWriteBytes == 0, "I1",
        "the store has written beyond its flash, or parts of a unit");
  for (size_t i = 0; i < size; ++i) {
    check(flash[at + i] == 0xFF, "I1", "the store has written flash that is not erased");
    flash[at + i] = static_cast<const uint8_t*>(from)[i];
  }
  ++flash_writes;
  return Status::kOk;
}

Status erase(uint32_t page) {
  check(page < 2 * store::kSlotPages, "I1", "the store has erased beyond its flash");
  std::fill_n(flash.begin() + page * store::kPageBytes, store::kPageBytes, uint8_t{0xFF});
  ++flash_writes;
  return Status::kOk;
}

}  // namespace tmf::port::storage
#endif

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (states[0].empty()) {
    make_states();
    check_learned();
  }
  Reader in(data, size);
  const uint8_t start = in.u8() % 16;
  if (start == kCodec) {
    run_codec(in);
    return 0;
  }
  if (start == kDecoder) {
    run_levels(in);
    run_decoder(in);
    return 0;
  }
  restore(start % kStates);
  secrets = 0;
  entropy_fails = size % 4 == 0;
  trains_delta = true;
  answered.clear();
  awaited.clear();
  forget_frozen();
  Bytes line;
  Operation operation;
  while (next_operation(in, operation)) run(operation, line);
  return 0;
}

#ifndef STANDALONE

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

// Half of the calls append a message or make a new input; the other half use libFuzzer's own mutations.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned int seed) {
  Random random(seed);
  if (random.once_in(2)) return LLVMFuzzerMutate(data, size, most);
  Bytes input(data, data + size);
  if (size == 0 || data[0] % 16 >= kCodec || random.once_in(4)) {
    input = generated(random);
  } else {
    Host host(random, data[0] % 16 % kStates);
    append_operation(input, random, host);
  }
  input.resize(std::min(input.size(), most));
  std::copy(input.begin(), input.end(), data);
  return input.size();
}

#else

#include <sanitizer/common_interface_defs.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace {

constexpr char kUsage[] =
    "usage: fuzz [--seed N] [--first N] [--executions N] [--finding FILE] [--write DIR] [INPUT ...]\n"
    "  INPUT         input files to run first, e.g. the corpus\n"
    "  --executions  number of inputs to make from the seed and run (default: 0)\n"
    "  --first       number of the first of these inputs; an input depends only on the seed and its number (default: 0)\n"
    "  --finding     file for an input that violates an invariant (default: finding.bin)\n"
    "  --write       folder to write the inputs to instead of running them\n";

Bytes current;
std::string finding = "finding.bin";
std::string current_name;

void save(const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(current.data()), static_cast<std::streamsize>(current.size()));
}

// Called when a sanitizer or abort() ends the program.
void write_finding() {
  save(finding);
  std::fprintf(stderr, "input: %s, written to %s\n", current_name.c_str(), finding.c_str());
}

uint64_t number_after(int argc, char** argv, int& i) {
  if (++i == argc) std::exit((std::fputs(kUsage, stderr), 2));
  return std::strtoull(argv[i], nullptr, 10);
}

void report(uint64_t executions) {
  std::printf("executions %llu\n", static_cast<unsigned long long>(executions));
  const auto list = [](const char* name, const uint64_t* counts, size_t size) {
    std::printf("%s", name);
    for (size_t i = 0; i < size; ++i) std::printf(" %llu", static_cast<unsigned long long>(counts[i]));
    std::printf("\n");
  };
  list("accepted", reached.accepted, sizeof reached.accepted / sizeof reached.accepted[0]);
  list("status", reached.status, 10);
  list("state", reached.state, 6);
  list("fault", reached.fault, 10);
  list("damaged", &reached.damaged, 1);
  list("steps", &reached.steps, 1);
  list("kept", &reached.kept, 1);
  list("entries", &reached.entries, 1);
  list("codec", &reached.codec, 1);
  list("decoder", &reached.decoder, 1);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1;
  uint64_t first = 0;
  uint64_t executions = 0;
  std::string folder;
  std::vector<std::string> inputs;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--seed") {
      seed = number_after(argc, argv, i);
    } else if (argument == "--first") {
      first = number_after(argc, argv, i);
    } else if (argument == "--executions") {
      executions = number_after(argc, argv, i);
    } else if (argument == "--finding" && i + 1 < argc) {
      finding = argv[++i];
    } else if (argument == "--write" && i + 1 < argc) {
      folder = argv[++i];
    } else if (argument[0] == '-') {
      std::fputs(kUsage, stderr);
      return 2;
    } else {
      inputs.push_back(argument);
    }
  }
  __sanitizer_set_death_callback(write_finding);
  std::signal(SIGABRT, [](int) { write_finding(); });
  for (const std::string& name : inputs) {
    std::ifstream file(name, std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "fuzz: cannot read %s\n", name.c_str());
      return 2;
    }
    current.assign(std::istreambuf_iterator<char>(file), {});
    current_name = name;
    LLVMFuzzerTestOneInput(current.data(), current.size());
  }
  for (uint64_t i = first; i < first + executions; ++i) {
    Random random(Random(seed).next() + i);
    current = generated(random);
    if (!folder.empty()) {
      save(folder + "/" + std::to_string(i));
      continue;
    }
    current_name = "--seed " + std::to_string(seed) + " --first " + std::to_string(i) + " --executions 1";
    LLVMFuzzerTestOneInput(current.data(), current.size());
  }
  report(inputs.size() + executions);
}

#endif
