// Runs of adjacent floats in vectors: the independent sums of one client, computed side by side.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/sgd.hpp"

namespace tmf::sim::single {

template <int kWidth>
struct RunOf {
  typedef float Type __attribute__((vector_size(4 * kWidth)));
  typedef uint32_t Places __attribute__((vector_size(4 * kWidth)));
};
template <>
struct RunOf<1> {
  using Type = float;
};

// A vector of kWidth floats; a float if kWidth is 1.
template <int kWidth>
using Run = typename RunOf<kWidth>::Type;

// From and to a place of any alignment.
template <int kWidth>
[[gnu::always_inline]] inline Run<kWidth> load(const float* from) {
  Run<kWidth> run;
  std::memcpy(&run, from, sizeof run);
  return run;
}
template <typename R>
[[gnu::always_inline]] inline void store(float* to, const R& run) {
  std::memcpy(to, &run, sizeof run);
}

// The number in every place. x - 0 is x for every x; x + 0 would turn -0 into +0.
template <int kWidth>
[[gnu::always_inline]] inline Run<kWidth> filled(float number) {
  return number - Run<kWidth>{};
}

template <int kNumber>
using Constant = std::integral_constant<int, kNumber>;

// Calls visit(Constant<width>, Constant<number of runs>, offset) for tiles of at most kMost runs, kRuns runs in all.
template <int kWidth, int kRuns, int kMost, typename Visit>
[[gnu::always_inline]] inline void in_tiles(const Visit& visit, int at) {
  if constexpr (kRuns >= kMost)
    for (int n = kRuns / kMost; n > 0; --n, at += kMost * kWidth) visit(Constant<kWidth>{}, Constant<kMost>{}, at);
  if constexpr (kRuns % kMost != 0) visit(Constant<kWidth>{}, Constant<kRuns % kMost>{}, at);
}

// The same for kCount numbers: in vectors of TMF_LANES floats, the rest in vectors of 4 floats, and then in single floats.
template <int kCount, int kMost, typename Visit>
[[gnu::always_inline]] inline void in_runs(const Visit& visit) {
  constexpr int kWide = TMF_LANES, kNarrow = kWide > 4 ? 4 : 1;
  constexpr int kInWide = kCount / kWide * kWide, kInNarrow = (kCount - kInWide) / kNarrow * kNarrow;
  in_tiles<kWide, kInWide / kWide, kMost>(visit, 0);
  in_tiles<kNarrow, kInNarrow / kNarrow, kMost>(visit, kInWide);
  if constexpr (kNarrow > 1) in_tiles<1, kCount - kInWide - kInNarrow, kMost>(visit, kInWide + kInNarrow);
}

// Swaps the squares beside the diagonal in each square of 2 kHalf rows and columns.
template <int kHalf, int... kPlace>
[[gnu::always_inline]] inline void swap_squares(Run<sizeof...(kPlace)>* rows, std::integer_sequence<int, kPlace...>) {
  constexpr int kWidth = sizeof...(kPlace);
  using Places = typename RunOf<kWidth>::Places;
  constexpr Places kUpper{static_cast<uint32_t>(kPlace & kHalf ? kWidth + kPlace - kHalf : kPlace)...};
  constexpr Places kLower{static_cast<uint32_t>(kPlace & kHalf ? kWidth + kPlace : kPlace + kHalf)...};
#pragma GCC unroll 16
  for (int row = 0; row < kWidth; ++row) {
    if (row & kHalf) continue;
    const Run<kWidth> upper = rows[row], lower = rows[row + kHalf];
    rows[row] = __builtin_shuffle(upper, lower, kUpper);
    rows[row + kHalf] = __builtin_shuffle(upper, lower, kLower);
  }
}

// Turns each square of 4 rows and columns: in two steps whose results have two numbers of a row, then the next two of another, which
// all vector units do within parts of four numbers.
template <int... kPlace>
[[gnu::always_inline]] inline void turn_fours(Run<sizeof...(kPlace)>* rows, std::integer_sequence<int, kPlace...>) {
  constexpr int kWidth = sizeof...(kPlace);
  using Places = typename RunOf<kWidth>::Places;
  constexpr Places kFirst{static_cast<uint32_t>(kPlace / 4 * 4 + kPlace % 2 + (kPlace & 2 ? kWidth : 0))...};
  constexpr Places kEven{static_cast<uint32_t>(kPlace / 4 * 4 + kPlace % 2 * 2 + (kPlace & 2 ? kWidth : 0))...};
#pragma GCC unroll 4
  for (int row = 0; row < kWidth; row += 4, rows += 4) {
    const Run<kWidth> upper = __builtin_shuffle(rows[0], rows[1], kFirst), upper_next = __builtin_shuffle(rows[0], rows[1], kFirst + 2);
    const Run<kWidth> lower = __builtin_shuffle(rows[2], rows[3], kFirst), lower_next = __builtin_shuffle(rows[2], rows[3], kFirst + 2);
    rows[0] = __builtin_shuffle(upper, lower, kEven);
    rows[1] = __builtin_shuffle(upper, lower, kEven + 1);
    rows[2] = __builtin_shuffle(upper_next, lower_next, kEven);
    rows[3] = __builtin_shuffle(upper_next, lower_next, kEven + 1);
  }
}

// Turns the rows of a square matrix into its columns.
template <int kWidth>
[[gnu::always_inline]] inline void transpose(Run<kWidth>* rows) {
  constexpr std::make_integer_sequence<int, kWidth> kPlaces{};
  if constexpr (kWidth >= 16) swap_squares<8>(rows, kPlaces);
  if constexpr (kWidth >= 8) swap_squares<4>(rows, kPlaces);
  if constexpr (kWidth >= 4) turn_fours(rows, kPlaces);
  else if constexpr (kWidth == 2) swap_squares<1>(rows, kPlaces);
}

// kWidth floats that are `apart` floats from each other.
template <int... kPlace>
[[gnu::always_inline]] inline Run<sizeof...(kPlace)> gathered(const float* from, int apart, std::integer_sequence<int, kPlace...>) {
  return Run<sizeof...(kPlace)>{from[kPlace * apart]...};
}
template <int kWidth>
[[gnu::always_inline]] inline Run<kWidth> gather(const float* from, int apart) {
  if constexpr (kWidth == 1) return *from;
  else return gathered(from, apart, std::make_integer_sequence<int, kWidth>{});
}

// An update whose second number of a weight (a velocity, or a sum of gradients) lies beside the weight instead of kApart floats
// behind it: so both can be in two vectors.
template <typename Update>
struct Beside;
template <uint32_t kDecay, uint32_t kMomentum, uint32_t kVelocity>
struct Beside<kernels::Sgd<kDecay, kMomentum, kVelocity>> {
  using Type = kernels::Sgd<kDecay, kMomentum, 1>;
  static constexpr uint32_t kApart = kMomentum != 0 ? kVelocity : 0;
};
template <uint32_t kDecay, uint32_t kSum>
struct Beside<kernels::Accumulate<kDecay, kSum>> {
  using Type = kernels::Accumulate<kDecay, 1>;
  static constexpr uint32_t kApart = kSum;
};

// Changes the weights at a place; `change` is rate gradient.
template <typename Update, int kWidth>
[[gnu::always_inline]] inline void move_run(float* place, const Run<kWidth>& change, const Run<kWidth>& rate) {
  using Rule = Beside<Update>;
  Run<kWidth> both[2] = {load<kWidth>(place), {}};
  if constexpr (Rule::kApart != 0) both[1] = load<kWidth>(place + Rule::kApart);
  Rule::Type::move(both, both[0], change, rate);
  store(place, both[0]);
  if constexpr (Rule::kApart != 0) store(place + Rule::kApart, both[1]);
}

}  // namespace tmf::sim::single
