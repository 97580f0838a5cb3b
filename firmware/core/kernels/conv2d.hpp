// 2-D convolution over [height, width, channels]: forward, and backward with an SGD update that stores no weight gradient.
#pragma once

#include "axis.hpp"
#include "bias.hpp"
#include "pairs.hpp"
#include "relu.hpp"

namespace tmf::kernels {

// Adds to gradients that were begun with other rows of outputs, in place of an update.
struct Continue {
  static constexpr bool kMoves = true;

  template <typename T>
  static void move(T* place, const T&, const T& sum, const T&) {
    *place = sum;
  }
};

// Where the sum of a gradient begins.
template <typename Update>
struct Beginning {
  template <typename T>
  static T of(const T*) {
    return T{};
  }
};
template <>
struct Beginning<Continue> {
  template <typename T>
  static T of(const T* place) {
    return *place;
  }
};

// kernel is [rows, columns, channels, filters], bias [filters]; a sequence is an image of one row. Fixed orders of summation:
// y adds kernel rows, columns, then channels to the bias; dx adds kernel rows, columns, then filters to 0; each weight's
// gradient adds output pixels, row by row, to 0. Pixels outside the image are skipped, which equals adding zeros.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    using Walk = Pairs<Outputs<Rows>, Outputs<Columns>>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=](const Pair& at) {
      if (kHasSingles && at.is_single())
        forward_pixels<1>(x, kernel, bias, y, at);
      else
        forward_pixels<2>(x, kernel, bias, y, at);
    });
  }

  // Writes dx if kDx, with 0 where x is 0 if kMask (x from a ReLU). Update changes kernel and bias, or leaves them (Hold).
  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx) input_gradient<kMask>(x, dy, dx, kernel);
    if constexpr (Update::kMoves) {
      update<Update>(x, dy, Update::template writable<T>(kernel), rate);
      move_its_bias<Update>(dy, Update::template writable<T>(bias), rate);
    }
  }

  // The same as forward and the update of backward, for an image that is there a few rows at a time: source.rows(out) says where
  // its row 0 would be, if the rows that the row `out` of outputs and the next one read are there.
  template <typename Source, typename T, typename W>
  static void forward_rows(Source& source, const W* kernel, const W* bias, T* y) {
    using Walk = Pairs<Outputs<Rows>, Outputs<Columns>>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=, &source](const Pair& at) {
      const T* x = source.rows(at.row);
      if (kHasSingles && at.is_single())
        forward_pixels<1>(x, kernel, bias, y, at);
      else
        forward_pixels<2>(x, kernel, bias, y, at);
    });
  }
  // Adds the products of the rows [from, until) of outputs to `sums`, in the order of the whole image.
  template <typename T>
  static void add_gradient(const T* x, const T* dy, T* sums, int from, int until) {
    update<Continue>(x, dy, sums, T(1.0f), SomeRows{from, until});
  }
  template <typename Update, typename T>
  static void move_its_bias(const T* dy, T* bias, T rate) {
    move_bias<kFilterTile, Update, Rows::kOut * Columns::kOut, kFilters>(dy, bias, rate);
  }

 private:
  // Tiles of at most kAccumulators sums: two pixels by filters forward, two pixels by channels for dx, and up to four channels
  // by filters for the update.
  static constexpr int kForwardTile = at_most(kFilterTile, kAccumulators / 2);
  static constexpr int kGradientTile = at_most(kChannelTile, kAccumulators / 2);
  static constexpr int kUpdateChannels = at_most(kChannels, 4);
  static constexpr int kUpdateFilters =
      at_most(kFilterTile, kAccumulators / (kUpdateChannels == 3 ? 4 : at_least(kUpdateChannels, 2)));

  // Some rows of outputs; and those that use row r of the kernel, of all or of some.
  struct SomeRows {
    int from, until;
  };
  static constexpr int first_of(int r) { return Rows::first_out(r); }
  static constexpr int last_of(int r) { return Rows::last_out(r); }
  static constexpr int first_of(int r, const SomeRows& some) { return at_least(Rows::first_out(r), some.from); }
  static constexpr int last_of(int r, const SomeRows& some) { return at_most(Rows::last_out(r), some.until); }

  // Distance from one pixel to another in memory, in values.
  static constexpr int inputs_apart(int down, int right) { return (down * Columns::kIn + right) * kChannels; }
  static constexpr int outputs_apart(int down, int right) { return (down * Columns::kOut + right) * kFilters; }

  template <int kPixels, typename T, typename W>
  static void forward_pixels(const T* x, const W* kernel, const W* bias, T* y, const Pair& at) {
    y += outputs_apart(at.row, at.column);
    int f = 0;
    for (; f + kForwardTile <= kFilters; f += kForwardTile)
      forward_tile<kPixels, kForwardTile>(x, kernel + f, bias + f, y + f, at);
    if constexpr (kFilters % kForwardTile != 0)
      forward_tile<kPixels, kFilters % kForwardTile>(x, kernel + f, bias + f, y + f, at);
  }

  template <int kPixels, int kTile, typename T, typename W>
  static void forward_tile(const T* x, const W* kernel, const W* bias, T* y, const Pair& at) {
    const int top = Rows::start(at.row), left = Columns::start(at.column);
    const int last_row = Rows::last(at.row);
    const int first_column = Columns::first(at.column), last_column = Columns::last(at.column);
    const int next_x = inputs_apart(at.down * Rows::kStride, at.right * Columns::kStride);
    const int next_y = outputs_apart(at.down, at.right);
    constexpr int kUnroll = kPixels == 2 && kChannels % 2 == 0 ? 2 : 1;  // consecutive loads take fewer cycles each
    T sum[kPixels][kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kPixels; ++p) sum[p][t] = bias[t] - T{};  // to every lane of T; + T{} would turn -0 into +0
    }
    for (int r = Rows::first(at.row); r < last_row; ++r) {
      const T* pixel = x + inputs_apart(top + r, left + first_column);
      const W* weight = kernel + (r * Columns::kKernel + first_column) * kChannels * kFilters;
      // The columns and channels of a kernel row are contiguous in both x and kernel: one loop covers them.
      for (int n = (last_column - first_column) * kChannels; n > 0; n -= kUnroll) {
#pragma GCC unroll 2
        for (int u = 0; u < kUnroll; ++u) {
          T value[kPixels];
#pragma GCC unroll 2
          for (int p = 0; p < kPixels; ++p) value[p] = pixel[p * next_x];
          ++pixel;
#pragma GCC unroll 8
          for (int t = 0; t < kTile; ++t) {
#pragma GCC unroll 2
            for (int p = 0; p < kPixels; ++p) sum[p][t] += value[p] * weight[t];
          }
          weight += kFilters;
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p, y += next_y) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) y[t] = rectified<kRelu>(sum[p][t]);
    }
  }

  template <bool kMask, typename T, typename W>
  static void input_gradient(const T* x, const T* dy, T* dx, const W* kernel) {
    using Walk = Pairs<Inputs<Rows>, Inputs<Columns>>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=](const Pair& at) {
      if (kHasSingles && at.is_single())
        gradient_pixels<1, kMask>(x, dy, dx, kernel, at);
      else
        gradient_pixels<2, kMask>(x, dy, dx, kernel, at);
    });
  }

  template <int kPixels, bool kMask, typename T, typename W>
  static void gradient_pixels(const T* x, const T* dy, T* dx, const W* kernel, const Pair& at) {
    const int pixel = inputs_apart(at.row, at.column);
    int c = 0;
    for (; c + kGradientTile <= kChannels; c += kGradientTile)
      gradient_tile<kPixels, kGradientTile, kMask>(x + pixel + c, dy, dx + pixel + c, kernel + c * kFilters, at);
    if constexpr (kChannels % kGradientTile != 0)
      gradient_tile<kPixels, kChannels % kGradientTile, kMask>(x + pixel + c, dy, dx + pixel + c, kernel + c * kFilters, at);
  }

  // Sums the gradients from all output pixels that read these input pixels.
  template <int kPixels, int kTile, bool kMask, typename T, typename W>
  static void gradient_tile(const T* x, const T* dy, T* dx, const W* kernel, const Pair& at) {
    const int last_row = Rows::last_element(at.row), last_column = Columns::last_element(at.column);
    // Inputs one stride apart belong to neighbouring outputs.
    const int next_y = outputs_apart(at.down / Rows::kStride, at.right / Columns::kStride);
    const int next_x = inputs_apart(at.down, at.right);
    constexpr int kUnroll = kPixels == 2 && kFilters % 2 == 0 ? 2 : 1;
    T sum[kPixels][kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kPixels; ++p) sum[p][t] = T{};
    }
    for (int r = Rows::first_element(at.row); r < last_row; r += Rows::kStride) {
      for (int c = Columns::first_element(at.column); c < last_column; c += Columns::kStride) {
        const T* gradient = dy + outputs_apart(Rows::out(at.row, r), Columns::out(at.column, c));
        const W* weight = kernel + (r * Columns::kKernel + c) * kChannels * kFilters;
        for (int f = 0; f < kFilters; f += kUnroll) {
#pragma GCC unroll 2
          for (int u = 0; u < kUnroll; ++u) {
            T value[kPixels];
#pragma GCC unroll 2
            for (int p = 0; p < kPixels; ++p) value[p] = gradient[p * next_y];
            ++gradient;
#pragma GCC unroll 8
            for (int t = 0; t < kTile; ++t) {
#pragma GCC unroll 2
              for (int p = 0; p < kPixels; ++p) sum[p][t] += weight[t * kFilters] * value[p];
            }
            ++weight;
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p, x += next_x, dx += next_x) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) dx[t] = masked<kMask>(sum[p][t], x[t]);
    }
  }

  template <typename Update, typename T, typename... Some>
  static void update(const T* x, const T* dy, T* kernel, T rate, const Some&... some) {
    for (int r = 0; r < Rows::kKernel; ++r) {
      const int first_row = first_of(r, some...), rows = last_of(r, some...) - first_row;
      for (int c = 0; c < Columns::kKernel; ++c) {
        const int first_column = Columns::first_out(c), columns = Columns::last_out(c) - first_column;
        const int at = ((Rows::start(first_row) + r) * Columns::kIn + Columns::start(first_column) + c) * kChannels;
        const int from = (first_row * Columns::kOut + first_column) * kFilters;
        if constexpr (kChannels == 1) {  // two kernel columns then have the memory layout of two channels, and are updated so
          if (Columns::elements_alike(c)) {
            update_channels<2, Update>(x + at, dy + from, rows, columns, kernel, rate);
            kernel += 2 * kFilters;
            ++c;
            continue;
          }
        }
        int channel = 0;
        for (; channel + kUpdateChannels <= kChannels; channel += kUpdateChannels, kernel += kUpdateChannels * kFilters)
          update_channels<kUpdateChannels, Update>(x + at + channel, dy + from, rows, columns, kernel, rate);
        if constexpr (kChannels % kUpdateChannels != 0) {
          update_channels<kChannels % kUpdateChannels, Update>(x + at + channel, dy + from, rows, columns, kernel, rate);
          kernel += kChannels % kUpdateChannels * kFilters;
        }
      }
    }
  }

  template <int kCount, typename Update, typename T>
  static void update_channels(const T* x, const T* dy, int rows, int columns, T* kernel, T rate) {
    int f = 0;
    for (; f + kUpdateFilters <= kFilters; f += kUpdateFilters)
      update_tile<kCount, kUpdateFilters, Update>(x, dy + f, rows, columns, kernel + f, rate);
    if constexpr (kFilters % kUpdateFilters != 0)
      update_tile<kCount, kFilters % kUpdateFilters, Update>(x, dy + f, rows, columns, kernel + f, rate);
  }

  // Sums the gradient of one kernel element, for kCount channels and kTile filters, in registers and applies it immediately.
  template <int kCount, int kTile, typename Update, typename T>
  static void update_tile(const T* x, const T* dy, int rows, int columns, T* kernel, T rate) {
    T sum[kCount][kTile];
#pragma GCC unroll 8
    for (int c = 0; c < kCount; ++c) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[c][t] = Beginning<Update>::of(kernel + c * kFilters + t);
    }
    for (int row = 0; row < rows; ++row) {
      const T* pixel = x + row * Rows::kStride * Columns::kIn * kChannels;
      const T* gradient = dy + row * Columns::kOut * kFilters;
      for (int n = columns; n > 0; --n) {
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) {
#pragma GCC unroll 8
          for (int c = 0; c < kCount; ++c) sum[c][t] += pixel[c] * gradient[t];
        }
        pixel += Columns::kStride * kChannels;
        gradient += kFilters;
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kCount; ++c) {
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t, ++kernel) Update::move(kernel, *kernel, rate * sum[c][t], rate);
      kernel += kFilters - kTile;
    }
  }
};

}  // namespace tmf::kernels
