// Tests CRC-32 against its published check value.
#include "crc32.hpp"

#include "check.hpp"

namespace tmf {

static const uint8_t kDigits[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};

TEST("crc32 of 123456789 is the published check value") { CHECK(crc32(kDigits, sizeof kDigits) == 0xCBF43926); }

TEST("crc32 of nothing is 0") { CHECK(crc32(nullptr, 0) == 0); }

TEST("crc32 of several parts is that of the whole") {
  for (size_t first = 0; first <= sizeof kDigits; ++first) {
    CHECK(crc32(kDigits + first, sizeof kDigits - first, crc32(kDigits, first)) == 0xCBF43926);
  }
}

}  // namespace tmf
