// 2-D convolution over [height, width, channels]: forward, and backward with an SGD update that stores no weight gradient.
#pragma once

// In angle brackets: a folder that comes first in the include path may have its own versions.
#include <kernels/adjacent.hpp>
#include <kernels/depthwise_conv2d.hpp>

#include "axis.hpp"
#include "bias.hpp"
#include "column_tiles.hpp"
#include "relu.hpp"
#include "row_bands.hpp"

namespace tmf::kernels {

// kernel is [rows, columns, channels, filters], bias [filters]; a sequence is an image of one row. Fixed orders of summation:
// y adds kernel rows, columns, then channels to the bias; dx adds kernel rows, columns, then filters to 0; each weight's
// gradient adds output pixels, row by row, to 0. Pixels outside the image are skipped, which equals adding zeros.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
struct GeneralConv2d {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    WholeImage<T> image{x};
    forward_from(image, kernel, bias, y);
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
  static void forward_from(Source& source, const W* kernel, const W* bias, T* y) {
    if constexpr (kShortRows && run_of<T>(4) > 1) {
      for (int row = 0; row < Rows::kOut; ++row) {
        const T* x = source.rows(row);
        int f = 0;
        for (; f + kForwardTile <= kFilters; f += kForwardTile) forward_row<kForwardTile>(x, kernel + f, bias + f, y + f, row);
        if constexpr (kFilters % kForwardTile != 0)
          forward_row<kFilters % kForwardTile>(x, kernel + f, bias + f, y + f, row);
      }
      return;
    }
    // Many pixels may lie below each other, for which all rows must be there.
    constexpr bool kMany = kNarrowOutput && Source::kWhole;
    constexpr int kPixels = kMany ? GroupSize<Outputs<Rows>, Outputs<Columns>, many_pixels(kFilters)>::kValue : 2;
    using Walk = Groups<Outputs<Rows>, Outputs<Columns>, kPixels>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=, &source](const Group& at) {
      const T* x = source.rows(at.row);
      if (kHasSingles && at.is_single())
        forward_pixels<1>(x, kernel, bias, y, at);
      else
        forward_pixels<kPixels>(x, kernel, bias, y, at);
    });
  }
  // Adds the products of some rows of outputs to `sums`, in the order of the whole image.
  template <typename T>
  static void add_gradient(const T* x, const T* dy, T* sums, const SomeRows<Rows>& some) {
    update<Continue>(x, dy, sums, T(1.0f), some);
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
  static constexpr int kUpdateChannels = at_most(kChannels, kFilters == 1 ? 8 : 4);
  static constexpr int kUpdateFilters =
      at_most(kFilterTile, kAccumulators / (kUpdateChannels == 3 ? 4 : at_least(kUpdateChannels, 2)));

  // Few filters, or few channels, leave room for the sums of more than two pixels, each a product of two vectors.
  static constexpr bool kNarrowOutput = kFilters < 4 && kChannels >= 4, kNarrowInput = kChannels < 4 && kFilters >= 4;
  static constexpr int many_pixels(int depth) {
    return depth == 3 ? kAccumulators / 4 : at_most(at_least(kAccumulators / depth, 2), 8);
  }

  // Whether a kernel row has so few weights for each filter that it is unrolled.
  static constexpr bool kShortRows = (Columns::kKernel * kChannels <= 4 || Columns::kKernel == 1) && !kNarrowOutput;

  // Whether the sums of all weights of a kernel row fit into registers, for kRowFilters filters.
  static constexpr bool kWholeRows =
      Columns::kKernel > 1 && Columns::kKernel * kChannels <= 4 && kAccumulators >= 16 && kFilters > 1;
  static constexpr int kRowFilters = at_most(kFilterTile, 4);

  // A kernel of one weight for each channel, and pixels that are all used.
  static constexpr bool kSingleWeights = kFilters == 1 && Rows::kKernel == 1 && Columns::kKernel == 1 && Rows::kStride == 1 &&
                                         Columns::kStride == 1 && Rows::kOut == Rows::kIn && Columns::kOut == Columns::kIn;

  // Distance from one pixel to another in memory, in values.
  static constexpr int inputs_apart(int down, int right) { return (down * Columns::kIn + right) * kChannels; }
  static constexpr int outputs_apart(int down, int right) { return (down * Columns::kOut + right) * kFilters; }

  template <int kTile, typename T, typename W>
  static void forward_row(const T* x, const W* kernel, const W* bias, T* y, int row) {
    const int first = Rows::first(row);
    const T* const from = x + inputs_apart(Rows::start(row) + first, 0);
    const W* const weights = kernel + first * Columns::kKernel * kChannels * kFilters;
    ColumnTiles<Outputs<Columns>, kAccumulators / kTile>::for_each(
        ShortRows<kTile, T, W>{from, weights, bias, y + outputs_apart(row, 0), Rows::last(row) - first});
  }

  // Neighbouring output pixels of kTile filters, which use kernel rows that are unrolled.
  template <int kTile, typename T, typename W>
  struct ShortRows {
    const T* x;
    const W* kernel;
    const W* bias;
    T* y;
    int rows;

    template <int kPixels, typename Tile>
    [[gnu::always_inline]] void visit(const Tile& tile) const {
      const T* pixel = x + inputs_apart(0, tile.from());
      const W* weight = kernel;
      T sum[kPixels * kTile];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) {
        const T start = bias[t] - T{};
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p) sum[p * kTile + t] = start;
      }
      for (int row = Rows::kKernel == 1 ? 1 : rows; row > 0; --row, pixel += inputs_apart(1, 0)) {
#pragma GCC unroll 4
        for (int c = 0; c < Columns::kKernel; ++c) {
          const T* at = pixel;
          for (int n = kChannels / kUnrolled; n > 0; --n, at += kUnrolled) {
#pragma GCC unroll 4
            for (int channel = 0; channel < kUnrolled; ++channel, weight += kFilters)
              add_column<kPixels>(tile, c, at + channel, weight, sum);
          }
        }
      }
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p) store_rectified<kRelu, kTile>(y + outputs_apart(0, tile.place + p), sum + p * kTile);
    }

   private:
    // Channels of a kernel column that are unrolled.
    static constexpr int kUnrolled = kChannels <= 4 ? kChannels : kChannels % 2 == 0 ? 2 : 1;

    // Adds the products of one channel of a kernel column, for the pixels that use it: for most tiles, all do.
    template <int kPixels, typename Tile>
    [[gnu::always_inline]] static void add_column(const Tile& tile, int c, const T* pixel, const W* weight, T* sum) {
      T value[kPixels];
      bool all = true;
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p) {
        if (tile.uses(p, c))
          value[p] = pixel[tile.partner(p, c) * kChannels];
        else
          all = false;
      }
      if (all) {
        add_products<kPixels, kTile>(sum, weight, value);
        return;
      }
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p)
        if (tile.uses(p, c)) add_products<1, kTile>(sum + p * kTile, weight, value + p);
    }
  };

  template <int kPixels, typename T, typename W>
  static void forward_pixels(const T* x, const W* kernel, const W* bias, T* y, const Group& at) {
    y += outputs_apart(at.row, at.column);
    if constexpr (kNarrowOutput) {
      forward_filters<kPixels>(x, kernel, bias, y, at);
      return;
    }
    int f = 0;
    for (; f + kForwardTile <= kFilters; f += kForwardTile)
      forward_tile<kPixels, kForwardTile>(x, kernel + f, bias + f, y + f, at);
    if constexpr (kFilters % kForwardTile != 0)
      forward_tile<kPixels, kFilters % kForwardTile>(x, kernel + f, bias + f, y + f, at);
  }

  template <int kPixels, int kTile, typename T, typename W>
  static void forward_tile(const T* x, const W* kernel, const W* bias, T* y, const Group& at) {
    const int top = Rows::start(at.row), left = Columns::start(at.column);
    const int last_row = Rows::last(at.row);
    const int first_column = Columns::first(at.column), last_column = Columns::last(at.column);
    const int next_x = inputs_apart(at.down * Rows::kStride, at.right * Columns::kStride);
    const int next_y = outputs_apart(at.down, at.right);
    constexpr int kUnroll = kPixels == 2 && kChannels % 2 == 0 ? 2 : 1;  // consecutive loads take fewer cycles each
    T sum[kPixels * kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kPixels; ++p) sum[p * kTile + t] = bias[t] - T{};  // to every lane of T; + T{} would turn -0 into +0
    }
    for (int r = Rows::first(at.row); r < last_row; ++r) {
      const T* pixel = x + inputs_apart(top + r, left + first_column);
      const W* weight = kernel + (r * Columns::kKernel + first_column) * kChannels * kFilters;
      // The columns and channels of a kernel row are contiguous in both x and kernel: one loop covers them.
      for (int n = (last_column - first_column) * kChannels; n > 0; n -= kUnroll) {
#pragma GCC unroll 2
        for (int u = 0; u < kUnroll; ++u, ++pixel, weight += kFilters) {
          T value[kPixels];
#pragma GCC unroll 2
          for (int p = 0; p < kPixels; ++p) value[p] = pixel[p * next_x];
          add_products<kPixels, kTile>(sum, weight, value);
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p, y += next_y) store_rectified<kRelu, kTile>(y, sum + p * kTile);
  }

  // Outputs of all filters, which are few.
  template <int kPixels, typename T, typename W>
  static void forward_filters(const T* x, const W* kernel, const W* bias, T* y, const Group& at) {
    const int top = Rows::start(at.row), left = Columns::start(at.column);
    const int last_row = Rows::last(at.row);
    const int first_column = Columns::first(at.column), last_column = Columns::last(at.column);
    const int next_x = inputs_apart(at.down * Rows::kStride, at.right * Columns::kStride);
    const int next_y = outputs_apart(at.down, at.right);
    T sum[kFilters * kPixels];
#pragma GCC unroll 4
    for (int f = 0; f < kFilters; ++f) {
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) sum[f * kPixels + p] = bias[f] - T{};
    }
    for (int r = Rows::first(at.row); r < last_row; ++r) {
      const T* pixel = x + inputs_apart(top + r, left + first_column);
      const W* weight = kernel + (r * Columns::kKernel + first_column) * kChannels * kFilters;
      for (int n = last_column - first_column; n > 0; --n, pixel += kChannels, weight += kChannels * kFilters)
        add_pixel_dots<kPixels, kFilters, kChannels, 1, kFilters>(sum, pixel, next_x, weight);
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, y += next_y) {
#pragma GCC unroll 4
      for (int f = 0; f < kFilters; ++f) y[f] = rectified<kRelu>(sum[f * kPixels + p]);
    }
  }

  // Adds to the sums of kVectors vectors of weights, for each pixel, the products of its kDepth values with the vector. Vectors
  // are kNext places apart, and their weights kApart.
  template <int kPixels, int kVectors, int kDepth, int kNext, int kApart, typename T, typename W>
  [[gnu::always_inline]] static void add_pixel_dots(T* sum, const T* pixel, int next, const W* weight) {
    constexpr int kRun = at_most(kDepth, run_of<T>(4)), kRuns = kDepth / kRun * kRun;
    for (int i = 0; i < kRuns; i += kRun)
      add_run_dots<kPixels, kVectors, kRun, kNext, kApart>(sum, pixel + i, next, weight + i * kApart);
    if constexpr (kDepth % kRun != 0)
      add_run_dots<kPixels, kVectors, kDepth % kRun, kNext, kApart>(sum, pixel + kRuns, next, weight + kRuns * kApart);
  }
  template <int kPixels, int kVectors, int kRun, int kNext, int kApart, typename T, typename W>
  [[gnu::always_inline]] static void add_run_dots(T* sum, const T* pixel, int next, const W* weight) {
    W factor[kVectors * kRun];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
      for (int i = 0; i < kRun; ++i) factor[v * kRun + i] = weight[v * kNext + i * kApart];
    }
    add_dots<kVectors, kPixels, kRun>(sum, pixel, next, factor);
  }

  template <bool kMask, typename T, typename W>
  static void input_gradient(const T* x, const T* dy, T* dx, const W* kernel) {
    if constexpr (kSingleWeights) {
      int c = 0;
      for (; c + kGradientTile <= kChannels; c += kGradientTile)
        spread_gradient<kGradientTile, kMask>(x + c, dy, dx + c, kernel + c);
      if constexpr (kChannels % kGradientTile != 0)
        spread_gradient<kChannels % kGradientTile, kMask>(x + c, dy, dx + c, kernel + c);
      return;
    }
    constexpr int kPixels = kNarrowInput ? GroupSize<Inputs<Rows>, Inputs<Columns>, many_pixels(kChannels)>::kValue : 2;
    using Walk = Groups<Inputs<Rows>, Inputs<Columns>, kPixels>;
    constexpr bool kHasSingles = Walk::has_singles();
    Walk::for_each([=](const Group& at) {
      if (kHasSingles && at.is_single())
        gradient_pixels<1, kMask>(x, dy, dx, kernel, at);
      else
        gradient_pixels<kPixels, kMask>(x, dy, dx, kernel, at);
    });
  }

  // The gradient of kTile channels, each a single product.
  template <int kTile, bool kMask, typename T, typename W>
  static void spread_gradient(const T* x, const T* dy, T* dx, const W* kernel) {
    W weight[kTile];
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) weight[t] = kernel[t];
    for (int n = Rows::kOut * Columns::kOut; n > 0; --n, ++dy, x += kChannels, dx += kChannels) {
      T sum[kTile];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[t] = T{} + *dy * weight[t];
      store_masked<kMask, kTile>(dx, sum, x);
    }
  }

  template <int kPixels, bool kMask, typename T, typename W>
  static void gradient_pixels(const T* x, const T* dy, T* dx, const W* kernel, const Group& at) {
    const int pixel = inputs_apart(at.row, at.column);
    if constexpr (kNarrowInput) {
      gradient_channels<kPixels, kMask>(x + pixel, dy, dx + pixel, kernel, at);
      return;
    }
    int c = 0;
    for (; c + kGradientTile <= kChannels; c += kGradientTile)
      gradient_tile<kPixels, kGradientTile, kMask>(x + pixel + c, dy, dx + pixel + c, kernel + c * kFilters, at);
    if constexpr (kChannels % kGradientTile != 0)
      gradient_tile<kPixels, kChannels % kGradientTile, kMask>(x + pixel + c, dy, dx + pixel + c, kernel + c * kFilters, at);
  }

  // Sums the gradients from all output pixels that read these input pixels.
  template <int kPixels, int kTile, bool kMask, typename T, typename W>
  static void gradient_tile(const T* x, const T* dy, T* dx, const W* kernel, const Group& at) {
    const int last_row = Rows::last_element(at.row), last_column = Columns::last_element(at.column);
    // Inputs one stride apart belong to neighbouring outputs.
    const int next_y = outputs_apart(at.down / Rows::kStride, at.right / Columns::kStride);
    const int next_x = inputs_apart(at.down, at.right);
    constexpr int kRun = at_most(kFilters, run_of<T>(4));
    T sum[kPixels * kTile];
#pragma GCC unroll 16
    for (int t = 0; t < kPixels * kTile; ++t) sum[t] = T{};
    for (int r = Rows::first_element(at.row); r < last_row; r += Rows::kStride) {
      for (int c = Columns::first_element(at.column); c < last_column; c += Columns::kStride) {
        const T* gradient = dy + outputs_apart(Rows::out(at.row, r), Columns::out(at.column, c));
        const W* weight = kernel + (r * Columns::kKernel + c) * kChannels * kFilters;
        if constexpr (kRun == 1 && kPixels == 2 && kFilters % 2 == 0) {  // consecutive loads take less time each
          for (int f = 0; f < kFilters; f += 2, gradient += 2, weight += 2) {
            add_gradients<1, kPixels, kTile>(gradient, next_y, weight, sum);
            add_gradients<1, kPixels, kTile>(gradient + 1, next_y, weight + 1, sum);
          }
          continue;
        }
        for (int f = kRun; f <= kFilters; f += kRun, gradient += kRun, weight += kRun)
          add_gradients<kRun, kPixels, kTile>(gradient, next_y, weight, sum);
        if constexpr (kFilters % kRun != 0) add_gradients<kFilters % kRun, kPixels, kTile>(gradient, next_y, weight, sum);
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p, x += next_x, dx += next_x) store_masked<kMask, kTile>(dx, sum + p * kTile, x);
  }

  // The same for all channels, which are few.
  template <int kPixels, bool kMask, typename T, typename W>
  static void gradient_channels(const T* x, const T* dy, T* dx, const W* kernel, const Group& at) {
    const int last_row = Rows::last_element(at.row), last_column = Columns::last_element(at.column);
    const int next_y = outputs_apart(at.down / Rows::kStride, at.right / Columns::kStride);
    const int next_x = inputs_apart(at.down, at.right);
    T sum[kChannels * kPixels];
#pragma GCC unroll 16
    for (int t = 0; t < kChannels * kPixels; ++t) sum[t] = T{};
    for (int r = Rows::first_element(at.row); r < last_row; r += Rows::kStride) {
      for (int c = Columns::first_element(at.column); c < last_column; c += Columns::kStride) {
        const T* gradient = dy + outputs_apart(Rows::out(at.row, r), Columns::out(at.column, c));
        const W* weight = kernel + (r * Columns::kKernel + c) * kChannels * kFilters;
        add_pixel_dots<kPixels, kChannels, kFilters, kFilters, 1>(sum, gradient, next_y, weight);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, x += next_x, dx += next_x) {
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) dx[c] = masked_by<kMask>(sum[c * kPixels + p], x + c);
    }
  }

  // Adds the products of kRun filters' gradients.
  template <int kRun, int kPixels, int kTile, typename T, typename W>
  [[gnu::always_inline]] static void add_gradients(const T* gradient, int next, const W* weight, T* sum) {
    T value[kPixels * kRun];
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kRun; ++i) value[p * kRun + i] = gradient[p * next + i];
    }
    if constexpr (kFilters == 1)
      add_products<kPixels, kTile>(sum, weight, value);
    else
      add_dots<kPixels, kTile, kRun>(sum, weight, kFilters, value);
  }

  template <typename Update, typename T, typename... Some>
  static void update(const T* x, const T* dy, T* kernel, T rate, const Some&... some) {
    if constexpr (kWholeRows) {
      int f = 0;
      for (; f + kRowFilters <= kFilters; f += kRowFilters)
        update_rows<kRowFilters, Update>(x, dy + f, kernel + f, rate, some...);
      if constexpr (kFilters % kRowFilters != 0)
        update_rows<kFilters % kRowFilters, Update>(x, dy + f, kernel + f, rate, some...);
      return;
    }
    for (int r = 0; r < Rows::kKernel; ++r) {
      const int first_row = first_out<Rows>(r, some...), rows = last_out<Rows>(r, some...) - first_row;
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

  // Sums the gradients of a whole kernel row for kTile filters: its values lie side by side in x.
  template <int kTile, typename Update, typename T, typename... Some>
  static void update_rows(const T* x, const T* dy, T* kernel, T rate, const Some&... some) {
    using Of = Outputs<Columns>;
    constexpr int kCount = Columns::kKernel * kChannels;
    constexpr int kLeft = at_most(Columns::first_out(0), Columns::kOut);  // outputs that begin left of the image
    for (int r = 0; r < Rows::kKernel; ++r) {
      T sum[kCount * kTile];
#pragma GCC unroll 16
      for (int t = 0; t < kCount * kTile; ++t) sum[t] = Beginning<Update>::of(kernel + t / kTile * kFilters + t % kTile);
      for (int row = first_out<Rows>(r, some...); row < last_out<Rows>(r, some...); ++row) {
        const T* line = x + inputs_apart(Rows::start(row) + r, 0);
        const T* gradient = dy + outputs_apart(row, 0);
        for (int out = 0; out < kLeft; ++out, gradient += kFilters) add_part_of_row<kTile>(sum, line, gradient, out);
        const T* pixel = line + inputs_apart(0, Columns::start(kLeft));
        for (int n = Of::kWhole; n > 0; --n, pixel += inputs_apart(0, Columns::kStride), gradient += kFilters)
          add_outer_products<kCount, kTile>(sum, gradient, pixel);
        for (int out = kLeft + Of::kWhole; out < Columns::kOut; ++out, gradient += kFilters)
          add_part_of_row<kTile>(sum, line, gradient, out);
      }
#pragma GCC unroll 4
      for (int c = 0; c < kCount; ++c, kernel += kFilters) move_adjacent<Update, kTile>(kernel, sum + c * kTile, rate);
    }
  }

  // Adds the products of an output whose kernel row lies on the image in part.
  template <int kTile, typename T>
  [[gnu::always_inline]] static void add_part_of_row(T* sum, const T* line, const T* gradient, int out) {
#pragma GCC unroll 4
    for (int c = 0; c < Columns::kKernel; ++c) {
      const T* const pixel = line + inputs_apart(0, Columns::start(out) + c);
      if (Outputs<Columns>::uses(out, c)) add_outer_products<kChannels, kTile>(sum + c * kChannels * kTile, gradient, pixel);
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
    constexpr bool kTransposed = kTile < 4 && kCount > kTile;  // the longer row of sums takes fewer loads
    T sum[kCount * kTile];
#pragma GCC unroll 16
    for (int t = 0; t < kCount * kTile; ++t) {
      const int channel = kTransposed ? t % kCount : t / kTile, filter = kTransposed ? t / kCount : t % kTile;
      sum[t] = Beginning<Update>::of(kernel + channel * kFilters + filter);
    }
    for (int row = 0; row < rows; ++row) {
      const T* pixel = x + row * Rows::kStride * Columns::kIn * kChannels;
      const T* gradient = dy + row * Columns::kOut * kFilters;
      for (int n = columns; n > 0; --n) {
        if constexpr (kTransposed)
          add_outer_products<kTile, kCount>(sum, pixel, gradient);
        else
          add_outer_products<kCount, kTile>(sum, gradient, pixel);
        pixel += Columns::kStride * kChannels;
        gradient += kFilters;
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kCount; ++c, kernel += kFilters) {
      T gradient[kTile];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) gradient[t] = sum[kTransposed ? t * kCount + c : c * kTile + t];
      move_adjacent<Update, kTile>(kernel, gradient, rate);
    }
  }
};

// The kernels of a convolution.
template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d : GeneralConv2d<Rows, Columns, kChannels, kFilters, kRelu, kFilterTile, kChannelTile> {};

// A single channel and a single filter: each output pixel adds the same products in the same order as of a depthwise convolution.
template <typename Rows, typename Columns, bool kRelu, int kFilterTile, int kChannelTile>
struct Conv2d<Rows, Columns, 1, 1, kRelu, kFilterTile, kChannelTile> : DepthwiseConv2d<Rows, Columns, 1, kRelu, UsualTiles<Columns>> {};

}  // namespace tmf::kernels
