// The frame decoder and the delta codec alone, in heap buffers of the exact size.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "checks.hpp"
#include "delta_codec.hpp"

namespace {

void run_decoder(Reader& in) {
  const size_t capacity = in.u8() + size_t{6};
  uint8_t* const buffer = static_cast<uint8_t*>(std::malloc(capacity));
  FrameDecoder decoder;
  Bytes line;
  Operation operation;
  while (next_operation(in, operation)) {
    Bytes data(operation.data, operation.data + operation.size);
    if (operation.kind != kRaw && !data.empty()) data = framed(data);
    for (const uint8_t byte : data) {
      const bool found = decoder.push(byte, buffer, capacity);
      line.push_back(byte);
      if (byte != 0) {
        check(!found, "I2", "a frame was accepted before its end");
        continue;
      }
      const Bytes expected = unframed(line.data(), line.size() - 1, capacity);
      check(found == !expected.empty(), "I2", "a damaged frame was accepted, or a good one dropped");
      if (found)
        check(Bytes(buffer, buffer + decoder.size()) == expected, "I2", "a frame has other bytes");
      line.clear();
    }
  }
  std::free(buffer);
  ++reached.decoder;
}

// The k entries that must be sent, found by sorting.
std::vector<uint32_t> reference_selection(const std::vector<float>& values, uint32_t k, const SelectionRule& choice,
                                          const uint32_t (&layer_ends)[3]) {
  const auto n = static_cast<uint32_t>(values.size());
  std::vector<uint32_t> ends(std::begin(layer_ends), std::end(layer_ends));
  if (choice.selection != Selection::kLayer) ends = {n};
  const auto parts = static_cast<uint32_t>(ends.size());
  std::vector<uint32_t> priorities(n);
  for (uint32_t i = 0; i < n; ++i)
    priorities[i] = choice.selection == Selection::kRandom
                        ? threefry({choice.key.seed, choice.key.client}, {choice.key.round, 9u << 24 | i}).first / 2
                        : magnitude_bits(values[i]);
  std::vector<uint32_t> selected;
  for (uint32_t part = 0, begin = 0; part < parts; begin = ends[part++]) {
    std::vector<uint32_t> order(ends[part] - begin);
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = begin + i;
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return priorities[a] > priorities[b]; });
    const auto apportioned = [&](uint64_t parts_before, uint64_t end) {
      return n == parts ? 0 : (k - parts) * (end - parts_before) / (n - parts);
    };
    order.resize(1 + apportioned(part + 1, ends[part]) - apportioned(part, begin));
    selected.insert(selected.end(), order.begin(), order.end());
  }
  std::sort(selected.begin(), selected.end());
  return selected;
}

void run_codec(Reader& in) {
  const uint32_t n = 3 + in.u16() % 700;
  Recipe recipe;
  const uint32_t k = recipe.top_k = 1 + in.u16() % n;
  recipe.uplink = static_cast<Dtype>(in.u8() % 4);
  recipe.selection = static_cast<Selection>(in.u8() % 3);
  const SelectionRule choice = {recipe.selection, {in.u32(), in.u32(), in.u32()}};
  const uint32_t first = 1 + in.u16() % (n - 2);
  const uint32_t layer_ends[] = {first, first + 1 + in.u16() % (n - 1 - first), n};
  const size_t capacity = 1 + in.u16() % 300;
  const uint8_t sparsity = in.u8();
  std::vector<float> values(n, 0.0f);
  uint32_t mixed = 1;
  for (float& value : values) {
    mixed = mixed * 1664525 + 1013904223;
    if ((mixed >> 24) < sparsity) continue;
    value = in.left() >= 4 ? in.f32() : static_cast<float>(static_cast<int32_t>(mixed)) * 0x1p-40f;
  }
  const auto at = [&](uint32_t i) { return values[i]; };
  uint32_t histogram[128];
  DeltaEncoder<3> encoder;
  const Status status = encoder.freeze(at, layer_ends, recipe, choice.key, histogram);
  ++reached.codec;
  if (status != Status::kOk) {
    check(encoder.count() == 0, "I5", "a refused delta can be pulled");
    return;
  }
  check(encoder.count() == k, "I9", "another number of entries than asked for");

  const std::vector<uint32_t> order = reference_selection(values, k, choice, layer_ends);
  for (const uint32_t i : order) check(is_finite(values[i]), "I5", "a delta with a value that is not finite was frozen");

  uint8_t* const buffer = static_cast<uint8_t*>(std::malloc(capacity));
  for (uint32_t rank = 0, turn = 0; rank < k && turn < 64; ++turn) {
    Delta header{};
    size_t size = 0;
    const Status outcome = encoder.encode(at, rank, header, buffer, capacity, size);
    if (outcome == Status::kTooLarge) {
      check(capacity < 1 + 3 + width(recipe.uplink), "I9", "an entry that fits was refused");
      break;
    }
    check(outcome == Status::kOk && header.rank == rank && size <= capacity, "I9", "a chunk was refused or too long");
    header.data = buffer;
    header.data_size = size;
    uint32_t at_rank = rank;
    for (const Entry& entry : decoded(header, n)) {
      check(at_rank < k && order[at_rank] == entry.index, "I9",
            "not the entries of the highest priority, lowest index first");
      check(sent_right(values[entry.index], header, entry.bits), "I7", "a value is not the delta's");
      ++at_rank;
    }
    rank = (turn % 5 == 3 && rank > 0) ? rank / 2 : at_rank;  // sometimes goes back
  }
  std::free(buffer);
}

}  // namespace
