// Tests the ring buffer of received bytes: across its end, and when it is full.
#include "ring.hpp"

#include "check.hpp"

namespace tmf {

TEST("a ring gives its bytes in order, also across its end") {
  static Ring<5> ring;
  uint8_t in = 0, out = 0;
  for (int turn = 0; turn < 20; ++turn) {
    for (int i = 0; i < 3; ++i) ring.push(in++);
    uint8_t got[8];
    CHECK(ring.pop(got, 2) == 2 && !ring.empty());
    CHECK(ring.pop(got + 2, sizeof got - 2) == 1 && ring.empty());
    for (int i = 0; i < 3; ++i) CHECK(got[i] == out++);
  }
}

TEST("a ring is full at its capacity and has room again after a pop") {
  static Ring<3> ring;
  uint8_t got;
  CHECK(ring.empty() && ring.pop(&got, 1) == 0);
  for (uint8_t i = 0; i < 3; ++i) {
    CHECK(!ring.full());
    ring.push(i);
  }
  CHECK(ring.full());
  CHECK(ring.pop(&got, 1) == 1 && got == 0 && !ring.full());
}

}  // namespace tmf
