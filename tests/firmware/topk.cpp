// The k largest entries by magnitude, lowest index first among equals.
#include "topk.hpp"

#include "check.hpp"

namespace tmf {
namespace {

constexpr uint32_t kCount = 8;
constexpr float kDelta[kCount] = {0.5f, -3.0f, 0.0f, 2.0f, -2.0f, 2.0f, 1e-30f, -0.25f};
uint32_t histogram[128];

float delta_at(uint32_t i) { return kDelta[i]; }

// Whether the selection of `k` is exactly the indices in `expected`, k of them.
bool selects(uint32_t k, const uint32_t* expected) {
  const Selection selection = select_top(delta_at, kCount, k, histogram);
  Cursor cursor{0, 0, selection.ties};
  float value;
  for (uint32_t rank = 0; rank < k; ++rank) {
    const uint32_t index = next_selected(delta_at, kCount, selection.threshold, cursor, value);
    if (index != expected[rank] || value != kDelta[index]) return false;
  }
  return selection.count == k && next_selected(delta_at, kCount, selection.threshold, cursor, value) == kCount;
}

}  // namespace

TEST("select_top takes the largest, and of equals the first") {
  constexpr uint32_t kOne[] = {1}, kTwo[] = {1, 3}, kThree[] = {1, 3, 4}, kSix[] = {0, 1, 3, 4, 5, 7};
  CHECK(selects(1, kOne));
  CHECK(selects(2, kTwo));
  CHECK(selects(3, kThree));
  CHECK(selects(6, kSix));
}

TEST("select_top of all or none") {
  constexpr uint32_t kAll[] = {0, 1, 2, 3, 4, 5, 6, 7};
  CHECK(selects(kCount, kAll));
  CHECK(selects(0, kAll));
}

TEST("select_top names the largest magnitude") { CHECK(select_top(delta_at, kCount, 2, histogram).largest == 3.0f); }

}  // namespace tmf
