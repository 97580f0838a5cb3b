// A first layer with windows where the input stays bytes: its kernels over rows that are made floats a few at a time.
#pragma once

#include <kernels/half_numbers.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include <cstdint>
#include <cstring>

#include "avg_pool.hpp"
#include "conv2d.hpp"
#include "depthwise_conv2d.hpp"
#include "max_pool.hpp"

namespace tmf::kernels {

// The values of the 256 bytes: the scale times each, as where the input is made floats at once. A table takes fewer instructions
// per byte than a conversion, most of all without a floating-point unit.
struct Levels {
  static constexpr int kTables = 1;
  float scale;

  float value(int byte, int) const { return static_cast<float>(byte) * scale; }
};

// The same, normalised: Affine of it, with a table for each channel.
template <int kChannels>
struct NormalisedLevels {
  static constexpr int kTables = kChannels;
  float scale;
  const float* kernel;
  const float* bias;

  float value(int byte, int channel) const {
    const float input = static_cast<float>(byte) * scale;
    const float product = input * kernel[channel];
    return product + bias[channel];
  }
};

// The same, rounded to float16, as the output of a layer that normalises is where activations are.
template <int kChannels>
struct RoundedLevels : NormalisedLevels<kChannels> {
  float value(int byte, int channel) const { return rounded_to_half(NormalisedLevels<kChannels>::value(byte, channel)); }
};

// The rows of an image of bytes, of which those for some rows of outputs are floats. `work` holds the tables, then these rows.
template <typename Rows, typename Columns, int kChannels, int kRows, typename Value>
class Bands {
 public:
  static constexpr bool kWhole = false;
  static constexpr int kBand = kRows;  // of outputs
  static constexpr int kRow = Columns::kIn * kChannels;

  Bands(const uint8_t* bytes, const Value& value, float* work)
      : bytes_(bytes), tables_(work), band_(work + Value::kTables * kLevels) {
    for (int t = 0; t < Value::kTables; ++t)
      for (int byte = 0; byte < kLevels; ++byte) *work++ = value.value(byte, t);
  }

  // Where row 0 would be, if all rows from it on were floats: those are that the row `out` of outputs and the next one need.
  const float* rows(int out) {
    if (out >= until_) {
      const int first = at_least(Rows::start(out), 0);
      const int last = at_most(Rows::start(at_most(out + kBand, Rows::kOut) - 1) + Rows::kKernel, Rows::kIn);
      convert(bytes_ + first * kRow, (last - first) * kRow, band_);
      origin_ = band_ - first * kRow;
      until_ = out + kBand - 1;
    }
    return origin_;
  }

 private:
  static constexpr int kLevels = 256;
  // Values that are converted side by side, and the table of each is known.
  static constexpr int kSide = Value::kTables == 1 ? (kRow % 8 == 0 ? 8 : kRow % 4 == 0 ? 4 : 1) : Value::kTables;

  void convert(const uint8_t* from, int count, float* to) const {
    const float* const tables = tables_;
    for (; count > 0; count -= kSide, from += kSide, to += kSide) {
#pragma GCC unroll 8
      for (int i = 0; i < kSide; ++i) std::memcpy(to + i, tables + i % Value::kTables * kLevels + from[i], sizeof *to);
    }
  }

  const uint8_t* const bytes_;
  const float* const tables_;
  float* const band_;
  const float* origin_ = nullptr;
  int until_ = 0;  // outputs from this row on need other rows of inputs
};

// Layer has forward_from and, if it has weights, add_gradient. `x` is the scale and the bytes, `work` that of Bands. `sums` is the
// gradient of the kernel, which has kSize weights.
template <typename Layer, typename Rows, typename Columns, int kChannels, int kSize, int kBand, typename Value>
struct WindowsOfBytes {
  using Source = Bands<Rows, Columns, kChannels, kBand, Value>;

  // `normalising`: the weights of the normalisation, if there is one.
  template <typename... Normalising>
  static Source source(const float* x, float* work, Normalising... normalising) {
    return Source(reinterpret_cast<const uint8_t*>(x + 1), Value{*x, normalising...}, work);
  }

  // `last`: the weights, if it has some, and y.
  template <typename... Last>
  static void forward(Source&& source, Last... last) {
    Layer::forward_from(source, last...);
  }

  template <typename Update>
  static void backward(Source&& source, const float* dy, float* kernel, float* bias, float rate, float* sums) {
    for (int i = 0; i < kSize; ++i) sums[i] = 0.0f;
    for (int from = 0; from < Rows::kOut; from += kBand)
      Layer::add_gradient(source.rows(from), dy, sums, SomeRows<Rows>{from, at_most(from + kBand, Rows::kOut)});
    for (int i = 0; i < kSize; ++i) Update::move(kernel + i, kernel[i], rate * sums[i], rate);
    Layer::template move_its_bias<Update>(dy, bias, rate);
  }
};

}  // namespace tmf::kernels
