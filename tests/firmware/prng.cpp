// Tests Threefry-2x32 against its published results.
#include "prng.hpp"

#include "check.hpp"

namespace tmf {

TEST("threefry gives the published results") {
  struct Case {
    Pair key, counter, answer;
  };
  constexpr Case kCases[] = {
      {{0, 0}, {0, 0}, {0x6B200159, 0x99BA4EFE}},
      {{0xFFFFFFFF, 0xFFFFFFFF}, {0xFFFFFFFF, 0xFFFFFFFF}, {0x1CB996FC, 0xBB002BE7}},
      {{0x13198A2E, 0x03707344}, {0x243F6A88, 0x85A308D3}, {0xC4923A9C, 0x483DF7A0}},
  };
  for (const Case& each : kCases) {
    const Pair got = threefry(each.key, each.counter);
    CHECK(got.first == each.answer.first && got.second == each.answer.second);
  }
}

TEST("uniform takes the upper 24 bits and stays below 1") {
  CHECK(uniform(0) == 0.0f && uniform(0xFF) == 0.0f);
  CHECK(uniform(0x80000000) == 0.5f);
  CHECK(uniform(0xFFFFFFFF) == 0x1.fffffep-1f);
}

}  // namespace tmf
