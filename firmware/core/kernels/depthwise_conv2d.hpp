// Depthwise 2-D convolution over [height, width, channels]: each channel has its own kernel; several pixels at a time.
#pragma once

#include "axis.hpp"
#include "bias.hpp"
#include "column_tiles.hpp"
#include "held_kernel.hpp"
#include "relu.hpp"
#include "row_bands.hpp"
#include "row_tiles.hpp"

namespace tmf::kernels {

// kernel is [rows, columns, channels], bias [channels]. Fixed orders of summation: y adds kernel rows, then columns to the
// bias; dx adds kernel rows, then columns to 0; each weight's gradient adds output pixels, row by row, to 0. Pixels
// outside the image are skipped, which equals adding zeros.
template <typename Rows, typename Columns, int kChannels, bool kRelu, typename Tiles>
struct DepthwiseConv2d {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    if constexpr (is_held<T, Rows, Columns>() && Tiles::template Forward<Outputs<Columns>>::kCover) {
      using Pass = Forwards<T, W>;
      HeldKernel<Outputs<Rows>, Outputs<Columns>, typename Tiles::template Forward<Outputs<Columns>>, Rows::kKernel,
                 Columns::kKernel, kChannels, Pass, T, W>{x, kernel, Pass{bias, y}}
          .run();
      return;
    }
    for (int row = 0; row < Rows::kOut; ++row)
      OutputTiles<together<T>()>::for_each(Forward<T, W>{x, kernel, bias, y + row * Columns::kOut * kChannels, row});
  }

  // Writes dx if kDx, with 0 where x is 0 if kMask (x from a ReLU). Update changes kernel and bias, or leaves them (Hold).
  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    // dx needs the weights of the forward pass, so it is complete before any weight changes.
    if constexpr (kDx && is_held<T, Rows, Columns>() && Tiles::template Gradient<Inputs<Columns>>::kCover) {
      using Pass = Backwards<kMask, T>;
      HeldKernel<Inputs<Rows>, Inputs<Columns>, typename Tiles::template Gradient<Inputs<Columns>>, Rows::kKernel,
                 Columns::kKernel, kChannels, Pass, T, W>{dy, kernel, Pass{x, dx}}
          .run();
    } else if constexpr (kDx) {
      for (int row = 0; row < Rows::kIn; ++row) {
        const int from = row * Columns::kIn * kChannels;
        InputTiles<together<T>()>::for_each(Gradient<kMask, T, W>{x + from, dy, dx + from, kernel, row});
      }
    }
    if constexpr (Update::kMoves) {
      T* const weights = Update::template writable<T>(kernel);
      T* const biases = Update::template writable<T>(bias);
      if constexpr (is_held<T, Rows, Columns>() && Tiles::template Summed<Outputs<Columns>>::kFill) {
        HeldGradient<Rows, Columns, typename Tiles::template Summed<Outputs<Columns>>, kChannels, Update, true, AllRows<Rows>, T>{
            x, dy, AllRows<Rows>{}}
            .move(weights, biases, rate);
      } else {
        update_channels<Update>(x, dy, weights, rate);
        move_its_bias<Update>(dy, biases, rate);
      }
    }
  }

  // The same as forward and the update of backward, for an image that is there a few rows at a time: source.rows(out) says where
  // its row 0 would be, if the rows that the row `out` of outputs reads are there.
  template <typename Source, typename T, typename W>
  static void forward_from(Source& source, const W* kernel, const W* bias, T* y) {
    for (int row = 0; row < Rows::kOut; ++row, y += Columns::kOut * kChannels)
      OutputTiles<together<T>()>::for_each(Forward<T, W>{source.rows(row), kernel, bias, y, row});
  }
  // Adds the products of some rows of outputs to `sums`, in the order of the whole image.
  template <typename T>
  static void add_gradient(const T* x, const T* dy, T* sums, const SomeRows<Rows>& some) {
    using Summed = typename Tiles::template Summed<Outputs<Columns>>;
    if constexpr (is_held<T, Rows, Columns>() && Summed::kFill)
      HeldGradient<Rows, Columns, Summed, kChannels, Continue, false, SomeRows<Rows>, T>{x, dy, some}.move(sums, sums, T(1.0f));
    else
      update_channels<Continue>(x, dy, sums, T(1.0f), some);
  }
  template <typename Update, typename T>
  static void move_its_bias(const T* dy, T* bias, T rate) {
    move_bias<at_most(kChannels, 4), Update, Rows::kOut * Columns::kOut, kChannels>(dy, bias, rate);
  }

 private:
  // Products of a tile with one kernel row, which are unrolled; a tile's sums are in registers.
  static constexpr int kProducts = board::kFloatRegisters >= 32 ? 36 : board::kFloatRegisters > 0 ? 18 : 9;
  static constexpr int pixels(int stride) {
    return at_least(at_most(kProducts * stride / Columns::kKernel, kAccumulators * 3 / 4), 1);
  }

  // The kernel columns whose gradients are summed at the same time: a whole row, if it fits into the registers, or one.
  static constexpr bool kSumsRow = Columns::kKernel <= kAccumulators * 3 / 4;
  static constexpr int kSums = kSumsRow ? Columns::kKernel : 1;

  // Channels of a tile. Vectors of neighbouring channels share the lines and pages of a cache.
  template <typename T>
  static constexpr int together() { return at_most(kChannels, sizeof(T) > sizeof(float) ? 2 : 1); }
  template <typename T>
  static constexpr int updated_together() {
    return at_most(kChannels, sizeof(T) > sizeof(float) || !kSumsRow ? 8 : run_of<T>(4) > 1 || Columns::kKernel > 6 ? 1 : 2);
  }

  // The pixels of a tile of kCount channels: a whole row, where its sums fit into the registers, or as many as `most` products take.
  template <typename Of, int kCount>
  static constexpr int width(int most) {
    return board::kFloatRegisters >= 32 && kCount == 1 && Of::kCount <= kAccumulators && Columns::kKernel <= 5
               ? Of::kCount
               : at_least(most / kCount, 1);
  }
  template <int kCount>
  using OutputTiles = ColumnTiles<Outputs<Columns>, width<Outputs<Columns>, kCount>(pixels(1))>;
  template <int kCount>
  using InputTiles = ColumnTiles<Inputs<Columns>, width<Inputs<Columns>, kCount>(pixels(Columns::kStride))>;
  static constexpr int kPart = 8;  // pixels whose values are in registers at the same time

  // The passes with a kernel in registers.
  template <typename T, typename W>
  struct Forwards {
    const W* bias;
    T* y;

    void move(int places) { y += places; }  // to others than `start`
    T start(int channel) const { return bias[channel] - T{}; }  // to every lane of T; + T{} would turn -0 into +0
    template <int kWidth>
    void store(int at, const T* sums) const { store_rectified_apart<kRelu, kWidth, kChannels>(y + at, sums); }
  };
  template <bool kMask, typename T>
  struct Backwards {
    const T* x;
    T* dx;

    void move(int places) {
      x += places;
      dx += places;
    }
    T start(int) const { return T{}; }
    template <int kWidth>
    void store(int at, const T* sums) const { store_masked_apart<kMask, kWidth, kChannels>(dx + at, sums, x + at); }
  };

  template <typename T, typename W>
  struct Forward {
    const T* x;
    const W* kernel;
    const W* bias;
    T* y;
    int row;

    template <int kWidth, typename Tile>
    void visit(const Tile& tile) const {
      constexpr int kCount = together<T>();
      int c = 0;
      for (; c + kCount <= kChannels; c += kCount) visit<kWidth, kCount>(tile, c);
      if constexpr (kChannels % kCount != 0) visit<kWidth, kChannels % kCount>(tile, c);
    }

    template <int kWidth, int kCount, typename Tile>
    void visit(const Tile& tile, int channel) const {
      const int first_row = Rows::first(row), last_row = Rows::last(row);
      const T* pixel = x + ((Rows::start(row) + first_row) * Columns::kIn + tile.from()) * kChannels + channel;
      const W* weight = kernel + first_row * Columns::kKernel * kChannels + channel;
      T* const out = y + tile.place * kChannels + channel;
      T sum[kCount][kWidth];
#pragma GCC unroll 24
      for (int t = 0; t < kWidth; ++t) {
#pragma GCC unroll 8
        for (int k = 0; k < kCount; ++k) sum[k][t] = bias[channel + k] - T{};  // to every lane of T; + T{} would turn -0 into +0
      }
      for (int n = last_row - first_row; n > 0; --n) {
#pragma GCC unroll 24
        for (int from = 0; from < kWidth; from += kPart) {
#pragma GCC unroll 12
          for (int c = 0; c < Columns::kKernel; ++c) {
#pragma GCC unroll 8
            for (int t = from; t < from + kPart; ++t) {
              if (t < kWidth && tile.uses(t, c)) {
#pragma GCC unroll 8
                for (int k = 0; k < kCount; ++k)
                  sum[k][t] += pixel[tile.partner(t, c) * kChannels + k] * weight[c * kChannels + k];
              }
            }
          }
#pragma GCC unroll 8
          for (int k = 0; k < kCount; ++k) settle<kWidth>(sum[k]);
        }
        pixel += Columns::kIn * kChannels;
        weight += Columns::kKernel * kChannels;
      }
#pragma GCC unroll 8
      for (int k = 0; k < kCount; ++k) store_rectified_apart<kRelu, kWidth, kChannels>(out + k, sum[k]);
    }
  };

  // Sums the gradients from all output pixels that read the input pixels.
  template <bool kMask, typename T, typename W>
  struct Gradient {
    const T* x;
    const T* dy;
    T* dx;
    const W* kernel;
    int row;

    template <int kWidth, typename Tile>
    void visit(const Tile& tile) const {
      constexpr int kCount = together<T>();
      int c = 0;
      for (; c + kCount <= kChannels; c += kCount) visit<kWidth, kCount>(tile, c);
      if constexpr (kChannels % kCount != 0) visit<kWidth, kChannels % kCount>(tile, c);
    }

    template <int kWidth, int kCount, typename Tile>
    void visit(const Tile& tile, int channel) const {
      const int first_row = Rows::first_element(row), last_row = Rows::last_element(row);
      const T* gradient = dy + (Rows::out(row, first_row) * Columns::kOut + tile.from()) * kChannels + channel;
      const W* weight = kernel + first_row * Columns::kKernel * kChannels + channel;
      const T* const in = x + tile.place * kChannels + channel;
      T* const out = dx + tile.place * kChannels + channel;
      T sum[kCount][kWidth];
#pragma GCC unroll 24
      for (int t = 0; t < kWidth; ++t) {
#pragma GCC unroll 8
        for (int k = 0; k < kCount; ++k) sum[k][t] = T{};
      }
      for (int n = last_row - first_row; n > 0; n -= Rows::kStride) {
#pragma GCC unroll 24
        for (int from = 0; from < kWidth; from += kPart) {
#pragma GCC unroll 12
          for (int c = 0; c < Columns::kKernel; ++c) {
#pragma GCC unroll 8
            for (int t = from; t < from + kPart; ++t) {
              if (t < kWidth && tile.uses(t, c)) {
#pragma GCC unroll 8
                for (int k = 0; k < kCount; ++k)
                  sum[k][t] += weight[c * kChannels + k] * gradient[tile.partner(t, c) * kChannels + k];
              }
            }
          }
#pragma GCC unroll 8
          for (int k = 0; k < kCount; ++k) settle<kWidth>(sum[k]);
        }
        gradient -= Columns::kOut * kChannels;
        weight += Rows::kStride * Columns::kKernel * kChannels;
      }
#pragma GCC unroll 8
      for (int k = 0; k < kCount; ++k) store_masked_apart<kMask, kWidth, kChannels>(out + k, sum[k], in + k);
    }
  };

  template <int kCount, typename T>
  struct Sum {
    const T* x;
    const T* dy;
    T* sum;

    template <int kWidth, typename Tile>
    void visit(const Tile& tile) const {
      const T* pixel = x + tile.from() * kChannels;
      const T* gradient = dy + tile.place * kChannels;
#pragma GCC unroll 24
      for (int t = 0; t < kWidth; ++t) {
#pragma GCC unroll 12
        for (int c = 0; c < kSums; ++c) {
          if (tile.uses(t, c)) {
#pragma GCC unroll 8
            for (int k = 0; k < kCount; ++k)
              sum[c * kCount + k] += pixel[tile.partner(t, c) * kChannels + k] * gradient[t * kChannels + k];
          }
        }
      }
    }
  };

  template <typename Update, typename T, typename... Some>
  static void update_channels(const T* x, const T* dy, T* kernel, T rate, const Some&... some) {
    constexpr int kCount = updated_together<T>();
    int c = 0;
    for (; c + kCount <= kChannels; c += kCount) update<kCount, Update>(x + c, dy + c, kernel + c, rate, some...);
    if constexpr (kChannels % kCount != 0) update<kChannels % kCount, Update>(x + c, dy + c, kernel + c, rate, some...);
  }

  // Sums the gradients of a kernel row's elements in registers and applies them immediately.
  template <int kCount, typename Update, typename T, typename... Some>
  static void update(const T* x, const T* dy, T* kernel, T rate, const Some&... some) {
    for (int r = 0; r < Rows::kKernel; ++r) {
      const int first_row = first_out<Rows>(r, some...), last_row = last_out<Rows>(r, some...);
      for (int column = 0; column < Columns::kKernel; column += kSums, kernel += kSums * kChannels) {
        T sum[kSums * kCount];
#pragma GCC unroll 24
        for (int c = 0; c < kSums * kCount; ++c) sum[c] = Beginning<Update>::of(kernel + c / kCount * kChannels + c % kCount);
        const T* pixels = x + (Rows::start(first_row) + r) * Columns::kIn * kChannels;
        const T* gradients = dy + first_row * Columns::kOut * kChannels;
        for (int row = first_row; row < last_row; ++row) {
          if constexpr (kSumsRow) {
            OutputTiles<kCount>::for_each(Sum<kCount, T>{pixels, gradients, sum});
          } else {
            for (int out = Columns::first_out(column); out < Columns::last_out(column); ++out) {
#pragma GCC unroll 8
              for (int k = 0; k < kCount; ++k)
                sum[k] += pixels[(Columns::start(out) + column) * kChannels + k] * gradients[out * kChannels + k];
            }
          }
          pixels += Rows::kStride * Columns::kIn * kChannels;
          gradients += Columns::kOut * kChannels;
        }
#pragma GCC unroll 12
        for (int c = 0; c < kSums; ++c) {
#pragma GCC unroll 8
          for (int k = 0; k < kCount; ++k) {
            T* const weight = kernel + c * kChannels + k;
            Update::move(weight, *weight, rate * sum[c * kCount + k], rate);
          }
        }
      }
    }
  }
};

}  // namespace tmf::kernels
