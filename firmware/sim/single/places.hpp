// Places along an axis of an image, in groups whose sums are computed at the same time.
#pragma once

#include "runs.hpp"

namespace tmf::sim::single {

// Places along an axis: outputs, or inputs of which those a stride apart use the same kernel elements. kWhole of them, kNext
// apart and from the first one at or behind kBegin on, use all elements that any place uses.
template <typename Axis>
struct OutputsOf {
  static constexpr int kCount = Axis::kOut, kNext = 1;
  static constexpr int kBegin = (-Axis::start(0) + Axis::kStride - 1) / Axis::kStride;
  static constexpr int kSpare = Axis::kIn - Axis::start(0) - Axis::kKernel;
  static constexpr int kEnd = kSpare < 0 ? 0 : kSpare / Axis::kStride + 1 < kCount ? kSpare / Axis::kStride + 1 : kCount;
  static constexpr int kWhole = kEnd > kBegin ? kEnd - kBegin : 0;
};
template <typename Axis>
struct InputsOf {
  static constexpr int kCount = Axis::kIn, kNext = Axis::kStride;
  static constexpr int kFirst = Axis::kKernel - 1 + Axis::start(0), kBegin = kFirst > 0 ? kFirst : 0;
  static constexpr int kBehind = Axis::kOut * Axis::kStride + Axis::start(0), kEnd = kBehind < kCount ? kBehind : kCount;
  static constexpr int kWhole = kEnd > kBegin ? (kEnd - kBegin) / kNext : 0;
};

// Calls visit(Constant<number of places>, first place) for groups of at most kMost places that use the same kernel elements.
template <typename Places, int kMost, typename Visit>
[[gnu::always_inline]] inline void in_groups(const Visit& visit) {
  constexpr int kWhole = Places::kWhole, kGroups = (kWhole + kMost - 1) / kMost;
  constexpr int kSize = kWhole > 0 ? (kWhole + kGroups - 1) / kGroups : 1;
  for (int first = 0; first < Places::kNext; ++first) {
    int at = first;
    for (; at < Places::kBegin && at < Places::kCount; at += Places::kNext) visit(Constant<1>{}, at);
    for (int n = kWhole / kSize; n > 0; --n, at += kSize * Places::kNext) visit(Constant<kSize>{}, at);
    if constexpr (kWhole % kSize != 0) {
      visit(Constant<kWhole % kSize>{}, at);
      at += kWhole % kSize * Places::kNext;
    }
    for (; at < Places::kCount; at += Places::kNext) visit(Constant<1>{}, at);
  }
}

}  // namespace tmf::sim::single
