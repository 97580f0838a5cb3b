// Compares the marks and the list of the highest priorities with those that sorting gives, under the sanitizers.
#include "highest.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

namespace {

using Numbers = std::vector<int32_t>;

constexpr int32_t kMost = 0x7F7FFFFF;  // the bits of the largest finite float
int checked = 0;

bool is_right(const Numbers& priorities, uint32_t begin, uint32_t end, uint32_t k, int32_t near) {
  const uint32_t size = static_cast<uint32_t>(priorities.size());
  std::vector<uint32_t> order(end - begin);
  std::iota(order.begin(), order.end(), begin);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return priorities[a] > priorities[b]; });
  order.resize(k);
  std::sort(order.begin(), order.end());
  std::vector<uint8_t> marks(size + 8);
  tmf::sim::mark_highest(priorities.data(), begin, end, k, marks.data(), near);
  std::vector<uint32_t> listed(size + 8);
  tmf::sim::list_marked(marks.data(), size, listed.data());
  ++checked;
  return near > 0 && std::count(marks.begin(), marks.end(), 1) == k && std::equal(order.begin(), order.end(), listed.begin());
}

Numbers made(std::mt19937& random, uint32_t size, uint32_t kind) {
  Numbers numbers(size);
  for (uint32_t i = 0; i < size; ++i) {
    const int32_t any = static_cast<int32_t>(random() % kMost);
    switch (kind) {
      case 0: numbers[i] = any; break;
      case 1: numbers[i] = any % 3; break;                                           // many equal ones
      case 2: numbers[i] = any % 8 == 0 ? any : 0; break;                            // many changes of 0
      case 3: numbers[i] = static_cast<int32_t>(1u << i % 31) - 1; break;            // halved again and again
      case 4: numbers[i] = i == 0 ? kMost : static_cast<int32_t>(i); break;          // one far from all others
      case 5: numbers[i] = i % 2 == 0 ? kMost - static_cast<int32_t>(i) : any % 2; break;  // two groups
      default: numbers[i] = kMost; break;
    }
  }
  return numbers;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  const int32_t starts[] = {1, 2, 1 << 20, kMost / 2, kMost - 1, kMost, INT32_MAX - 1};
  for (uint32_t kind = 0; kind < 7; ++kind) {
    for (const uint32_t size : {1u, 2u, 31u, 64u, 200u}) {
      const Numbers numbers = made(random, size, kind);
      for (const uint32_t begin : {0u, size / 3}) {
        const uint32_t end = begin == 0 ? size : size - size / 4;
        for (uint32_t k = 0; k <= end - begin; ++k) {
          for (const int32_t near : starts) {
            if (is_right(numbers, begin, end, k, near)) continue;
            std::printf("wrong: numbers of kind %u, %u to %u of %u, %u of them, from %d\n", kind, begin, end, size, k, near);
            return 1;
          }
        }
      }
    }
  }
  std::printf("%d selections\n", checked);
}
