// Checks that convolutions of bytes have the bits of convolutions of floats, for many shapes; prints those that do not.
#include <cstdio>
#include <cstring>

#include "kernels/conv2d_of_bytes.hpp"

namespace tmf::kernels {
namespace {

// 4 floats of an image that nobody writes must keep their value: bands end where they should.
constexpr float kUntouched = 7.5f;
int shapes = 0;

struct Random {
  uint32_t state = 1;

  uint32_t next() { return (state = state * 1664525u + 1013904223u) >> 8; }
  float number() { return static_cast<float>(static_cast<int32_t>(next()) - (1 << 23)) * 0x1p-23f; }
};

template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu>
void check(const char* what) {
  constexpr int kTile = at_most(kFilters, 8), kBand = 4;
  constexpr int kIn = Rows::kIn * Columns::kIn * kChannels, kOut = Rows::kOut * Columns::kOut * kFilters;
  constexpr int kSize = Rows::kKernel * Columns::kKernel * kChannels * kFilters;
  constexpr int kBandRows = at_most((kBand - 1) * Rows::kStride + Rows::kKernel, Rows::kIn);
  constexpr int kWork = 256 + kBandRows * Columns::kIn * kChannels;
  using OfFloats = Conv2d<Rows, Columns, kChannels, kFilters, kRelu, kTile, at_most(kChannels, 8)>;
  using Inner = GeneralConv2d<Rows, Columns, kChannels, kFilters, kRelu, kTile, at_most(kChannels, 8)>;
  using OfBytes = Conv2dOfBytes<Inner, Rows, Columns, kChannels, kSize, kBand, Levels>;

  static float given[1 + (kIn + 3) / 4], floats[kIn], gradient[kOut], work[kWork + 4], sums[kSize + 4];
  static float kernels[2][kSize], biases[2][kFilters], outputs[2][kOut];
  Random random;
  given[0] = 1.0f / 255;
  auto* const bytes = reinterpret_cast<uint8_t*>(given + 1);
  for (int i = 0; i < kIn; ++i) {
    bytes[i] = static_cast<uint8_t>(random.next());
    floats[i] = static_cast<float>(bytes[i]) * given[0];
  }
  for (int i = 0; i < kSize; ++i) kernels[0][i] = kernels[1][i] = random.number();
  for (int f = 0; f < kFilters; ++f) biases[0][f] = biases[1][f] = random.number();
  for (float& value : gradient) value = random.number();
  for (int i = 0; i < 4; ++i) work[kWork + i] = sums[kSize + i] = kUntouched;

  OfFloats::forward(floats, kernels[0], biases[0], outputs[0]);
  OfBytes::forward(given, kernels[1], biases[1], outputs[1], work);
  OfFloats::template backward<Sgd<>, false, false, float>(floats, gradient, nullptr, kernels[0], biases[0], 0.125f);
  OfBytes::template backward<Sgd<>>(given, gradient, kernels[1], biases[1], 0.125f, work, sums);

  bool right = std::memcmp(outputs[0], outputs[1], sizeof *outputs) == 0 &&
               std::memcmp(kernels[0], kernels[1], sizeof *kernels) == 0 && std::memcmp(biases[0], biases[1], sizeof *biases) == 0;
  for (int i = 0; i < 4; ++i) right = right && work[kWork + i] == kUntouched && sums[kSize + i] == kUntouched;
  ++shapes;
  if (!right) std::printf("wrong: %s\n", what);
}

}  // namespace
}  // namespace tmf::kernels

int main() {
  using namespace tmf::kernels;
  check<Axis<13, 13, 3, 1, 1>, Axis<11, 11, 3, 1, 1>, 1, 1, true>("one channel and filter");
  check<Axis<13, 13, 3, 1, 1>, Axis<11, 11, 3, 1, 1>, 1, 6, true>("whole kernel rows");
  check<Axis<14, 7, 3, 2, 0>, Axis<9, 5, 3, 2, 1>, 1, 9, false>("whole kernel rows, stride 2");
  check<Axis<17, 13, 5, 1, 0>, Axis<6, 6, 2, 1, 0>, 2, 3, false>("whole kernel rows of two channels");
  check<Axis<11, 11, 1, 1, 0>, Axis<7, 7, 1, 1, 0>, 3, 10, true>("single pixels");
  check<Axis<11, 11, 3, 1, 1>, Axis<8, 8, 3, 1, 1>, 3, 8, true>("three channels");
  check<Axis<15, 8, 5, 2, 2>, Axis<10, 5, 5, 2, 2>, 3, 5, false>("three channels, stride 2");
  check<Axis<13, 13, 3, 1, 1>, Axis<3, 3, 3, 1, 1>, 5, 2, true>("few filters, below each other");
  check<Axis<12, 10, 3, 1, 0>, Axis<12, 10, 3, 1, 0>, 8, 1, false>("one filter");
  std::printf("%d shapes\n", shapes);
}
