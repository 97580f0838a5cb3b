// Predicts an image as it is and moved by a little, and takes the mean of the outputs.
#pragma once

#include <cstdint>

#include "model.hpp"
#include "places.hpp"

namespace tmf {

// How a view of an input is moved: its lines, and by how many values in each.
struct Move {
  uint32_t lines;
  uint32_t length;
  int32_t by;

  // View 0 is the input itself. Along both axes one place each way; along the second axis alone one place each way, then two.
  static Move of(uint32_t view) {
    using namespace averaging;
    constexpr uint32_t kRow = kColumns * kChannels;
    const uint32_t pair = (view + 1) / 2;  // 1, 1, 2, 2
    const bool moves_rows = !kAlongColumns && kViews > 3 && pair == 1;
    const uint32_t places = kShift * (kAlongColumns ? pair : 1);
    const auto by = static_cast<int32_t>(places * (moves_rows ? kRow : kChannels));
    return {moves_rows ? 1 : kRows, moves_rows ? kRows * kRow : kRow, view == 0 ? 0 : view % 2 == 1 ? by : -by};
  }
};

// The input's place in the arena is not used for anything else before the prediction ends. The input is moved there and back,
// so that it needs no second place; only what moves out of it is saved.
class Averaging {
 public:
  using Value = averaging::Value;
  static constexpr bool kAverages = true;
  static constexpr uint32_t kViews = averaging::kViews;

  // Moves an input as view `view` shows it.
  static void move(Value* input, uint32_t view) {
    const Move move = Move::of(view);
    augment::shift(input, move.lines, move.length, move.by);
  }

  // Reads the input in arena `a`, and writes the mean outputs there.
  void run(const float* p, float* a) {
    Value* const input = reinterpret_cast<Value*>(a + model::kInput + averaging::kReadsBytes);
    for (uint32_t view = 0; view < kViews; ++view) {
      const Move move = Move::of(view);
      augment::save_edge(input, move.lines, move.length, move.by, edge_);
      augment::shift(input, move.lines, move.length, move.by);
      model::Model<float>::forward(p, a);
      augment::shift(input, move.lines, move.length, -move.by);
      augment::put_edge_back(input, move.lines, move.length, move.by, edge_);
      for (uint32_t i = 0; i < model::kOutputSize; ++i)
        sums_[i] = view == 0 ? a[model::kOutput + i] : sums_[i] + a[model::kOutput + i];
    }
    for (uint32_t i = 0; i < model::kOutputSize; ++i) a[model::kOutput + i] = sums_[i] / static_cast<float>(kViews);
  }

 private:
  Value edge_[averaging::kEdge] = {};
  float sums_[model::kOutputSize] = {};
};

}  // namespace tmf
