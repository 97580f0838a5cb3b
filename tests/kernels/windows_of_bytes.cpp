// Checks that layers of bytes have the bits of layers of floats, for many shapes; prints those that do not.
#include "kernels/windows_of_bytes.hpp"

#include <cstdio>
#include <cstring>

#include "kernels/affine.hpp"

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

template <int kSize>
struct Guarded {
  float values[kSize + 4];

  Guarded() {
    for (float& value : values) value = kUntouched;
  }
  bool is_whole() const {
    bool whole = true;
    for (int i = 0; i < 4; ++i) whole = whole && values[kSize + i] == kUntouched;
    return whole;
  }
};

void report(bool right, const char* what) {
  ++shapes;
  if (!right) std::printf("wrong: %s\n", what);
}

// An image in bytes, as floats, and normalised; memory for its bands.
template <typename Rows, typename Columns, int kChannels, int kBand>
struct Image {
  static constexpr int kIn = Rows::kIn * Columns::kIn * kChannels;
  static constexpr int kBandRows = at_most((kBand - 1) * Rows::kStride + Rows::kKernel, Rows::kIn);
  static constexpr int kRows = kBandRows * Columns::kIn * kChannels;

  float given[1 + (kIn + 3) / 4], floats[kIn], normalised[kIn];
  float kernel[kChannels], bias[kChannels];
  Guarded<256 + kRows> plain;
  Guarded<256 * kChannels + kRows> of_channels;

  explicit Image(Random& random) {
    given[0] = 1.0f / 255;
    auto* const bytes = reinterpret_cast<uint8_t*>(given + 1);
    for (int i = 0; i < kIn; ++i) {
      bytes[i] = static_cast<uint8_t>(random.next());
      floats[i] = static_cast<float>(bytes[i]) * given[0];
    }
    for (int c = 0; c < kChannels; ++c) {
      kernel[c] = random.number();  // below 0 in some channels: the largest byte has the smallest value
      bias[c] = random.number();
    }
    Affine<kIn / kChannels, kChannels, false, at_most(kChannels, 8)>::forward(floats, kernel, bias, normalised);
  }
  bool is_whole() const { return plain.is_whole() && of_channels.is_whole(); }
};

template <typename OfFloats, typename Inner, typename Rows, typename Columns, int kChannels, int kFilters, int kSize>
void check_weighted(const char* what) {
  constexpr int kBand = 4, kOut = Rows::kOut * Columns::kOut * kFilters;
  using OfBytes = WindowsOfBytes<Inner, Rows, Columns, kChannels, kSize, kBand, Levels>;
  using Normalising = WindowsOfBytes<Inner, Rows, Columns, kChannels, kSize, kBand, NormalisedLevels<kChannels>>;
  static Random random;
  static Image<Rows, Columns, kChannels, kBand> image(random);
  static float gradient[kOut], kernels[4][kSize], biases[4][kFilters], outputs[4][kOut];
  static Guarded<kSize> sums;
  for (int i = 0; i < kSize; ++i) {
    kernels[0][i] = random.number();
    for (int k = 1; k < 4; ++k) kernels[k][i] = kernels[0][i];
  }
  for (int f = 0; f < kFilters; ++f) {
    biases[0][f] = random.number();
    for (int k = 1; k < 4; ++k) biases[k][f] = biases[0][f];
  }
  for (float& value : gradient) value = random.number();

  const float* const inputs[] = {image.floats, image.normalised};
  for (int k = 0; k < 2; ++k) {
    OfFloats::forward(inputs[k], kernels[k], biases[k], outputs[k]);
    OfFloats::template backward<Sgd<>, false, false, float>(inputs[k], gradient, nullptr, kernels[k], biases[k], 0.125f);
  }
  OfBytes::forward(OfBytes::source(image.given, image.plain.values), kernels[2], biases[2], outputs[2]);
  OfBytes::template backward<Sgd<>>(OfBytes::source(image.given, image.plain.values), gradient, kernels[2], biases[2], 0.125f,
                                    sums.values);
  const auto source = [] { return Normalising::source(image.given, image.of_channels.values, image.kernel, image.bias); };
  Normalising::forward(source(), kernels[3], biases[3], outputs[3]);
  Normalising::template backward<Sgd<>>(source(), gradient, kernels[3], biases[3], 0.125f, sums.values);

  bool right = image.is_whole() && sums.is_whole();
  for (int k = 0; k < 2; ++k) {
    right = right && std::memcmp(outputs[k], outputs[k + 2], sizeof *outputs) == 0 &&
            std::memcmp(kernels[k], kernels[k + 2], sizeof *kernels) == 0 &&
            std::memcmp(biases[k], biases[k + 2], sizeof *biases) == 0;
  }
  report(right, what);
}

template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu>
void check(const char* what) {
  constexpr int kTile = at_most(kFilters, 8), kSize = Rows::kKernel * Columns::kKernel * kChannels * kFilters;
  using OfFloats = Conv2d<Rows, Columns, kChannels, kFilters, kRelu, kTile, at_most(kChannels, 8)>;
  using Inner = GeneralConv2d<Rows, Columns, kChannels, kFilters, kRelu, kTile, at_most(kChannels, 8)>;
  check_weighted<OfFloats, Inner, Rows, Columns, kChannels, kFilters, kSize>(what);
}

template <typename Rows, typename Columns, int kChannels, bool kRelu>
void check_depthwise(const char* what) {
  using Layer = DepthwiseConv2d<Rows, Columns, kChannels, kRelu, UsualTiles<Columns>>;
  check_weighted<Layer, Layer, Rows, Columns, kChannels, kChannels, Rows::kKernel * Columns::kKernel * kChannels>(what);
}

template <typename Pool>
struct Largest {
  static void forward(const float* x, float* y) { Pool::template forward<false>(x, y); }
};

template <typename Layer, typename OfFloats, typename Rows, typename Columns, int kChannels, int kBand>
void check_pool_of(const char* what) {
  constexpr int kOut = Rows::kOut * Columns::kOut * kChannels;
  using OfBytes = WindowsOfBytes<Layer, Rows, Columns, kChannels, 0, kBand, Levels>;
  using Normalising = WindowsOfBytes<Layer, Rows, Columns, kChannels, 0, kBand, NormalisedLevels<kChannels>>;
  static Random random;
  static Image<Rows, Columns, kChannels, kBand> image(random);
  static float outputs[4][kOut];
  OfFloats::forward(image.floats, outputs[0]);
  OfFloats::forward(image.normalised, outputs[1]);
  OfBytes::forward(OfBytes::source(image.given, image.plain.values), outputs[2]);
  Normalising::forward(Normalising::source(image.given, image.of_channels.values, image.kernel, image.bias), outputs[3]);
  report(image.is_whole() && std::memcmp(outputs[0], outputs[2], 2 * sizeof *outputs) == 0, what);
}

template <typename Rows, typename Columns, int kChannels, int kBand>
void check_pools(const char* what) {
  using Max = MaxPool<Rows, Columns, kChannels, 8>;
  using Mean = AvgPool<Rows, Columns, kChannels, 8>;
  check_pool_of<Max, Largest<Max>, Rows, Columns, kChannels, kBand>(what);
  check_pool_of<Mean, Mean, Rows, Columns, kChannels, kBand>(what);
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
  check_depthwise<Axis<13, 13, 3, 1, 1>, Axis<16, 16, 3, 1, 1>, 3, true>("depthwise, equal tiles");
  check_depthwise<Axis<11, 11, 3, 1, 1>, Axis<23, 23, 3, 1, 1>, 3, false>("depthwise, inner tiles");
  check_depthwise<Axis<14, 7, 3, 2, 0>, Axis<9, 5, 3, 2, 1>, 5, true>("depthwise, stride 2");
  check_depthwise<Axis<9, 9, 3, 1, 1>, Axis<12, 12, 3, 1, 1>, 1, false>("depthwise, long tile");
  check_depthwise<Axis<15, 8, 5, 2, 2>, Axis<19, 10, 5, 2, 2>, 9, true>("depthwise, kernel not in registers");
  check_depthwise<Axis<10, 4, 3, 3, 1>, Axis<10, 4, 3, 3, 1>, 2, false>("depthwise, stride 3");
  check_depthwise<Axis<7, 7, 1, 1, 0>, Axis<8, 8, 7, 1, 3>, 2, true>("depthwise, a single row of the kernel, wide");
  check_pools<Axis<12, 6, 2, 2, 0>, Axis<10, 5, 2, 2, 0>, 3, 1>("pool 2x2");
  check_pools<Axis<13, 6, 2, 2, 0>, Axis<11, 5, 2, 2, 0>, 9, 1>("pool 2x2, pixels left over");
  check_pools<Axis<13, 7, 3, 2, 1>, Axis<11, 6, 3, 2, 1>, 3, 4>("pool 3x3, stride 2, same");
  check_pools<Axis<9, 9, 3, 1, 1>, Axis<7, 7, 3, 1, 1>, 1, 4>("pool 3x3, stride 1, same");
  check_pools<Axis<14, 4, 2, 4, 0>, Axis<14, 4, 2, 4, 0>, 4, 1>("pool with gaps");
  check_pools<Axis<8, 2, 4, 4, 0>, Axis<1, 1, 1, 1, 0>, 2, 1>("pool of one column");
  std::printf("%d shapes\n", shapes);
}
