// Tests Top-P selection: the k entries of the largest magnitude; among equals, the lowest index first.
#include "topk.hpp"

#include "check.hpp"

namespace tmf {
namespace {

constexpr uint32_t kCount = 8;
constexpr float kDelta[kCount] = {0.5f, -3.0f, 0.0f, 2.0f, -2.0f, 2.0f, 1e-30f, -0.25f};
uint32_t histogram[128];

uint32_t priority_at(uint32_t i) { return magnitude_bits(kDelta[i]); }

// Whether the selection of k entries is exactly the k indices in `expected`.
bool selects(uint32_t k, const uint32_t* expected) {
  const Part part = select_top(priority_at, 0, kCount, k, histogram);
  Cursor cursor{0, 0, 0, part.ties};
  for (uint32_t rank = 0; rank < k; ++rank)
    if (next_selected(priority_at, &part, kCount, cursor) != expected[rank]) return false;
  return next_selected(priority_at, &part, kCount, cursor) == kCount;
}

}  // namespace

TEST("select_top selects the largest, and among equals the first") {
  constexpr uint32_t kOne[] = {1}, kTwo[] = {1, 3}, kThree[] = {1, 3, 4}, kSix[] = {0, 1, 3, 4, 5, 7};
  CHECK(selects(1, kOne));
  CHECK(selects(2, kTwo));
  CHECK(selects(3, kThree));
  CHECK(selects(6, kSix));
}

TEST("select_top of all") {
  constexpr uint32_t kAll[] = {0, 1, 2, 3, 4, 5, 6, 7};
  CHECK(selects(kCount, kAll));
}

TEST("entries are apportioned to parts by size, at least one to each") {
  Apportionment apportionment(8, 20, 3);  // of the parts' 1, 12 and 7 entries
  CHECK(apportionment.next(1) == 1);
  CHECK(apportionment.next(12) == 1 + 3);  // 5 * 11 / 17
  CHECK(apportionment.next(7) == 1 + 2);
}

}  // namespace tmf
