// The first convolution where the input stays bytes: Conv2d over rows that are made floats a few at a time.
#pragma once

#include <cstdint>

#include "conv2d.hpp"

namespace tmf::kernels {

// What a byte of channel c means: the scale times it, as where the input is made floats at once.
template <int kChannels>
struct Levels {
  float scale;

  void convert(const uint8_t* from, int pixels, float* to) const {
    for (int n = pixels * kChannels; n > 0; --n) *to++ = static_cast<float>(*from++) * scale;
  }
};

// The same, normalised: Affine of it.
template <int kChannels>
struct NormalisedLevels {
  float scale;
  const float* kernel;
  const float* bias;

  void convert(const uint8_t* from, int pixels, float* to) const {
    for (; pixels > 0; --pixels) {
      for (int c = 0; c < kChannels; ++c) {
        const float input = static_cast<float>(*from++) * scale;
        const float product = input * kernel[c];
        *to++ = product + bias[c];
      }
    }
  }
};

// The rows of an image of bytes, of which those for some rows of outputs are floats.
template <typename Rows, typename Columns, int kChannels, int kBand, typename Value>
class Bands {
 public:
  static constexpr int kRow = Columns::kIn * kChannels;

  Bands(const uint8_t* bytes, Value value, float* band) : bytes_(bytes), value_(value), band_(band) {}

  // Where row 0 would be, if all rows from it on were floats: those are that the row `out` of outputs and the next one need.
  const float* rows(int out) {
    if (out >= until_) {
      const int first = at_least(Rows::start(out), 0);
      const int last = at_most(Rows::start(at_most(out + kBand, Rows::kOut) - 1) + Rows::kKernel, Rows::kIn);
      value_.convert(bytes_ + first * kRow, (last - first) * Columns::kIn, band_);
      origin_ = band_ - first * kRow;
      until_ = out + kBand - 1;
    }
    return origin_;
  }

 private:
  const uint8_t* const bytes_;
  const Value value_;
  float* const band_;
  const float* origin_ = nullptr;
  int until_ = 0;  // outputs from this row on need other rows of inputs
};

// x is the scale and the bytes. `band` holds the rows that are floats, `sums` the gradient of the kernel, which has kSize weights.
template <typename Conv, typename Rows, typename Columns, int kChannels, int kSize, int kBand, typename Value>
struct Conv2dOfBytes {
  template <typename... Normalising>
  static void forward(const float* x, const float* kernel, const float* bias, float* y, float* band, Normalising... normalising) {
    Source source = source_of(x, band, normalising...);
    Conv::forward_rows(source, kernel, bias, y);
  }

  template <typename Update, typename... Normalising>
  static void backward(const float* x, const float* dy, float* kernel, float* bias, float rate, float* band, float* sums,
                       Normalising... normalising) {
    if constexpr (Update::kMoves) {
      for (int i = 0; i < kSize; ++i) sums[i] = 0.0f;
      Source source = source_of(x, band, normalising...);
      for (int from = 0; from < Rows::kOut; from += kBand)
        Conv::add_gradient(source.rows(from), dy, sums, from, at_most(from + kBand, Rows::kOut));
      for (int i = 0; i < kSize; ++i) Update::move(kernel + i, kernel[i], rate * sums[i], rate);
      Conv::template move_its_bias<Update>(dy, bias, rate);
    }
  }

 private:
  using Source = Bands<Rows, Columns, kChannels, kBand, Value>;

  template <typename... Normalising>
  static Source source_of(const float* x, float* band, Normalising... normalising) {
    return Source(reinterpret_cast<const uint8_t*>(x + 1), Value{*x, normalising...}, band);
  }
};

}  // namespace tmf::kernels
