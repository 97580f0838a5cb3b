// Which rows of a small kernel meet a line of partners, in the order of every sum: each partner is then loaded once for all rows of
// the kernel, while the sums of rows that are not complete stay in registers.
#pragma once

#include "pixel_groups.hpp"

namespace tmf::kernels {

// A walk in steps over all lines of partners of Outputs<Axis> or Inputs<Axis>, the rows to be computed. A step has kPhases lines,
// each of which meets some rows of the kernel, from the last one down. Row r adds to the row `target(step, r)`; the sum goes on
// with that at `before(r)`, or begins if this is below 0, and is then at `sum_of(r)`. Nothing is added to it later if `ends(r)`;
// `last_of(sum)` is that row, or below 0. A step before `first_step(r)` has no target for the row. No line meets the last
// kUntouched rows.
template <typename Of>
struct RowWalk;

// Outputs from the first on: a step has as many lines as the window moves.
template <typename Axis>
struct RowWalk<Outputs<Axis>> {
 private:
  static constexpr int kFirst = -Axis::start(0) / Axis::kStride;
  static constexpr int kLastLine = at_most(Axis::kIn, Axis::start(Axis::kOut - 1) + Axis::kKernel) - 1;

 public:
  static constexpr int kPhases = Axis::kStride, kSums = (Axis::kKernel - 1) / Axis::kStride + 1;
  static constexpr int kSteps = (kLastLine - Axis::start(0)) / Axis::kStride - kFirst + 1;
  static constexpr int kUntouched = 0;
  static constexpr int phase_of(int r) { return r % Axis::kStride; }
  static constexpr int sum_of(int r) { return r / Axis::kStride; }
  static constexpr int before(int r) { return sum_of(r) - (phase_of(r) == 0 ? 1 : 0); }
  static constexpr bool ends(int r) { return r == Axis::kKernel - 1; }
  static constexpr int last_of(int sum) { return sum == kSums - 1 ? Axis::kKernel - 1 : -1; }
  static constexpr int first_step(int r) { return at_least(sum_of(r) - kFirst, 0); }
  static constexpr int target(int step, int r) { return kFirst + step - sum_of(r); }
  static constexpr int line(int step, int phase) { return Axis::start(kFirst + step) + phase; }
};

// Inputs from the last on: a line of outputs meets all rows of the kernel.
template <typename Axis>
struct RowWalk<Inputs<Axis>> {
 private:
  static constexpr int kTop = Axis::start(Axis::kOut - 1);

 public:
  static constexpr int kPhases = 1, kSums = Axis::kKernel, kSteps = Axis::kOut;
  static constexpr int kUntouched = at_least(Axis::kIn - kTop - Axis::kKernel, 0);
  static constexpr int phase_of(int) { return 0; }
  static constexpr int sum_of(int r) { return r; }
  static constexpr int before(int r) { return r - Axis::kStride; }
  static constexpr bool ends(int r) { return r + Axis::kStride >= Axis::kKernel; }
  static constexpr int last_of(int sum) { return ends(sum) ? sum : -1; }
  static constexpr int first_step(int r) { return (at_least(kTop + r - Axis::kIn + 1, 0) + Axis::kStride - 1) / Axis::kStride; }
  static constexpr int target(int step, int r) { return kTop - step * Axis::kStride + r; }
  static constexpr int line(int step, int) { return Axis::kOut - 1 - step; }
};

}  // namespace tmf::kernels
