// Max pooling over [height, width, channels]: the largest value of each window.
#pragma once

#include <kernels/adjacent.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include "mask.hpp"
#include "math.hpp"
#include "pixel_groups.hpp"
#include "windows.hpp"

namespace tmf::kernels {

// A number as its pool compares it. A ReLU's output (kRelu) is 0 or above 0, never -0 or NaN: its bits have the same order, and a
// processor compares them in fewer instructions. `passes`: whether the largest pixel receives a gradient; NaN is no largest one.
template <bool kRelu, typename T>
struct Ordered {
  using Key = T;
  static const T& key(const T& number) { return number; }
  static const T& value(const T& key) { return key; }
  static auto passes(const T& key) -> decltype(key == key) { return kRelu ? key > T{} : key == key; }
};
template <>
struct Ordered<true, float> {
  using Key = int32_t;
  static Key key(float number) { return bits_of<int32_t>(number); }
  static float value(Key key) { return bits_of<float>(key); }
  static bool passes(Key key) { return key > 0; }
};

// A window's gradient goes to its largest pixel; among equals to the first, row by row. dx adds the gradients of its windows, row
// by row, to 0. Pixels outside the image are skipped.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct MaxPool {
  // With kMask, x is from a ReLU.
  template <bool kMask, typename T>
  static void forward(const T* x, T* y) {
    All::for_each(Forward<kMask, T>{x, y});
  }

  // The same as forward, for an image that is there a band of rows at a time: source.rows(out) says where its row 0 would be, if
  // the rows that Source::kBand rows of outputs from `out` on read are there.
  template <typename Source, typename T>
  static void forward_from(Source& source, T* y) {
    for (int from = 0; from < Rows::kOut; from += Source::kBand)
      All::for_each(Forward<false, T>{source.rows(from), y}, SomeRows<Rows>{from, at_most(from + Source::kBand, Rows::kOut)});
  }

  // Also saves which pixel of each window receives the gradient. With kMask, a window with y = 0 has none.
  template <bool kMask, typename T>
  static void forward(const T* x, T* y, T* mask) {
    MaskWriter<T> saved(mask);
    All::for_each(ForwardAndSave<kMask, T>{x, y, saved});
    saved.finish();
  }

  template <typename T>
  static void backward(const T* mask, const T* dy, T* dx) {
    clear<All::kInputs>(dx);
    MaskReader<T> saved(mask);
    All::for_each(Backward<T>{saved, dy, dx});
  }

 private:
  // The number of the pixel, counted from 1, or 0 for none, has as many bits as divide a word's 32.
  static constexpr int kPixels = Rows::kKernel * Columns::kKernel;
  static constexpr int kBits = kPixels < 2 ? 1 : kPixels < 4 ? 2 : kPixels < 16 ? 4 : kPixels < 256 ? 8 : 32;
  static constexpr uint32_t kNumber = static_cast<uint32_t>((uint64_t{1} << kBits) - 1);
  // Where code for a whole window is long, a tile has two of them. The order of the numbers is always that of the outputs.
  static constexpr int kNumbers = at_most(kTile, 32 / kBits);
  using All = Windows<Rows, Columns, kChannels, kPixels <= 4 ? kNumbers : at_most(kNumbers, 2), kNumbers>;
  using AllBackward = Windows<Rows, Columns, kChannels, kNumbers>;

  // The largest pixel of a window and its number.
  template <bool kMask, typename T>
  struct Largest {
    using Of = Ordered<kMask, T>;
    typename Of::Key value;
    Word<T> number;

    T pixel() const { return Of::value(value); }
    Word<T> receiver() const { return Of::passes(value) ? number : Word<T>{}; }
  };

  // Takes a pixel if it is larger. Single numbers: both under one condition, which a compiler may compute twice otherwise.
  template <typename Key>
  [[gnu::always_inline]] static void take(bool is_larger, Key& value, uint32_t& number, const Key& key, int its_number) {
    if (is_larger) {
      value = key;
      number = static_cast<uint32_t>(its_number);
    }
  }
  // Vectors: lane by lane.
  template <typename Condition, typename Key, typename Number>
  static void take(const Condition& is_larger, Key& value, Number& number, const Key& key, int its_number) {
    number = is_larger ? Number{} + static_cast<uint32_t>(its_number) : number;
    value = is_larger ? key : value;
  }

  // The largest pixel of a window of which all columns are on the image, as is its first pixel, x.
  template <bool kMask, typename T>
  [[gnu::always_inline]] static Largest<kMask, T> largest(const OnImage& rows, const T* x) {
    const int first = rows.skipped * Columns::kKernel + 1;
    auto value = Ordered<kMask, T>::key(*x);
    Word<T> number = Word<T>{} + static_cast<uint32_t>(first);
    if constexpr (kPixels > 9 || !Whole<Rows>::kAll) {  // not unrolled as a whole
      for (int r = 0; r < rows.count; ++r) add_row<kMask, 0>(value, number, x + r * All::kRow, first + r * Columns::kKernel);
    } else {
      add_row<kMask, 1>(value, number, x, first);
#pragma GCC unroll 8
      for (int r = 1; r < rows.count; ++r)
        add_row<kMask, 0>(value, number, x + r * All::kRow, first + r * Columns::kKernel);
    }
    return {value, number};
  }
  template <bool kMask, int kFirst, typename Key, typename Number, typename T>
  [[gnu::always_inline]] static void add_row(Key& value, Number& number, const T* row, int first) {
    constexpr int kRest = Columns::kKernel < 8 ? kFirst : Columns::kKernel / 8 * 8;
    if constexpr (kRest >= 8) {
      for (int c = 0; c < kRest; c += 8) add_pixels<kMask, 0, 8>(value, number, row + c * kChannels, first + c);
    }
    add_pixels<kMask, kRest, Columns::kKernel>(value, number, row, first);
  }
  template <bool kMask, int kBegin, int kEnd, typename Key, typename Number, typename T>
  [[gnu::always_inline]] static void add_pixels(Key& value, Number& number, const T* row, int first) {
#pragma GCC unroll 8
    for (int c = kBegin; c < kEnd; ++c) {
      const auto key = Ordered<kMask, T>::key(row[c * kChannels]);
      take(key > value, value, number, key, first + c);
    }
  }

  // The same of any window.
  template <bool kMask, typename T>
  static Largest<kMask, T> largest(const OnImage& rows, const OnImage& columns, const T* x) {
    int its_number = rows.skipped * Columns::kKernel + columns.skipped + 1;
    auto value = Ordered<kMask, T>::key(*x);
    Word<T> number = Word<T>{} + static_cast<uint32_t>(its_number);
    for (int r = 0; r < rows.count; ++r, x += All::kRow, its_number += Columns::kKernel) {
      for (int c = 0; c < columns.count; ++c) {
        const auto key = Ordered<kMask, T>::key(x[c * kChannels]);
        take(key > value, value, number, key, its_number + c);
      }
    }
    return {value, number};
  }

  // What each pass does with some windows; functions with a template parameter instead of generic lambdas, so that an exported
  // library needs no more than C++11.
  template <bool kMask, typename T>
  struct Forward {
    const T* x;
    T* y;

    template <int kWindows, int kWidth>
    [[gnu::always_inline]] void whole(const OnImage& rows, int input, int output) const {
#pragma GCC unroll 8
      for (int i = 0; i < kWindows * kWidth; ++i)
        y[output + i] = largest<kMask>(rows, x + input + i / kWidth * All::kNext + i % kWidth).pixel();
    }

    template <int kWidth>
    void part(const OnImage& rows, const OnImage& columns, int input, int output) const {
      for (int c = 0; c < kWidth; ++c) y[output + c] = largest<kMask>(rows, columns, x + input + c).pixel();
    }
  };
  template <bool kMask, typename T>
  struct ForwardAndSave {
    const T* x;
    T* y;
    MaskWriter<T>& saved;

    template <int kWindows, int kWidth>
    [[gnu::always_inline]] void whole(const OnImage& rows, int input, int output) const {
      Word<T> numbers{};
#pragma GCC unroll 8
      for (int i = 0; i < kWindows * kWidth; ++i) {
        const Largest<kMask, T> found = largest<kMask>(rows, x + input + i / kWidth * All::kNext + i % kWidth);
        y[output + i] = found.pixel();
        numbers |= found.receiver() << (kBits * i);
      }
      saved.put(numbers, kBits * kWindows * kWidth);
    }

    template <int kWidth>
    void part(const OnImage& rows, const OnImage& columns, int input, int output) const {
      Word<T> numbers{};
      for (int c = 0; c < kWidth; ++c) {
        const Largest<kMask, T> found = largest<kMask>(rows, columns, x + input + c);
        y[output + c] = found.pixel();
        numbers |= found.receiver() << (kBits * c);
      }
      saved.put(numbers, kBits * kWidth);
    }
  };
  template <typename T>
  struct Backward {
    MaskReader<T>& saved;
    const T* dy;
    T* dx;

    template <int kWindows, int kWidth>
    [[gnu::always_inline]] void whole(const OnImage& rows, int input, int output) const {
      const OnImage columns{0, Columns::kKernel};
      const Word<T> numbers = saved.take(kBits * kWindows * kWidth);
#pragma GCC unroll 8
      for (int i = 0; i < kWindows * kWidth; ++i)
        pass_on(rows, columns, numbers >> (kBits * i) & kNumber, dy[output + i],
                dx + input + i / kWidth * All::kNext + i % kWidth);
    }

    template <int kWidth>
    void part(const OnImage& rows, const OnImage& columns, int input, int output) const {
      const Word<T> numbers = saved.take(kBits * kWidth);
      for (int c = 0; c < kWidth; ++c) pass_on(rows, columns, numbers >> (kBits * c) & kNumber, dy[output + c], dx + input + c);
    }
  };

  // Adds a gradient to a pixel, or to 0 where the pixel has no other window.
  template <typename T>
  static void add_to(T& pixel, const T& gradient) {
    pixel = (All::kApart ? T{} : pixel) + gradient;
  }

  // To the receiver among the pixels of a window, of which `first` is the first on the image.
  // Vectors: each lane has its own.
  template <typename Number, typename T>
  static void pass_on(const OnImage& rows, const OnImage& columns, const Number& number, const T& gradient, T* first) {
    for (int r = 0; r < rows.count; ++r) {
      for (int c = 0; c < columns.count; ++c) {
        const int its_number = (rows.skipped + r) * Columns::kKernel + columns.skipped + c + 1;
        add_to(first[r * All::kRow + c * kChannels], number == static_cast<uint32_t>(its_number) ? gradient : T{});
      }
    }
  }
  // A single number: all pixels but one keep their 0.
  template <typename T>
  static void pass_on(const OnImage& rows, const OnImage& columns, const uint32_t& number, const T& gradient, T* first) {
    if (number == 0) return;
    const int i = static_cast<int>(number) - 1, row = Rows::kKernel == 1 ? 0 : static_cast<int>((number - 1) / Columns::kKernel);
    const int skipped = rows.skipped * All::kRow + columns.skipped * kChannels;
    add_to(first[i * kChannels + row * (All::kRow - Columns::kKernel * kChannels) - skipped], gradient);
  }
};

}  // namespace tmf::kernels
