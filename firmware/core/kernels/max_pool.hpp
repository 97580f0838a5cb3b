// Max pooling over [height, width, channels]: the largest value of each window.
#pragma once

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

// A window's gradient goes to its largest pixel; among equals to the first, row by row. Where windows overlap, dx adds their
// gradients, row by row, to 0. Pixels outside the image are skipped.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct MaxPool {
  // With kMask, x is from a ReLU.
  template <bool kMask, typename T>
  static void forward(const T* x, T* y) {
    All::for_each(Forward<kMask, T>{x, y});
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
    All::clear(dx);
    MaskReader<T> saved(mask);
    All::for_each(Backward<T>{saved, dy, dx});
  }

 private:
  // The number of the pixel, counted from 1, or 0 for none, has as many bits as divide a word's 32.
  static constexpr int kPixels = Rows::kKernel * Columns::kKernel;
  static constexpr int kBits = kPixels < 2 ? 1 : kPixels < 4 ? 2 : kPixels < 16 ? 4 : kPixels < 256 ? 8 : 32;
  // Small windows are unrolled for as many channels as a word has numbers of.
  static constexpr bool kSmall = kPixels <= 4 && Windows<Rows, Columns, 1, 1>::kWhole;
  using All = Windows<Rows, Columns, kChannels, at_most(kTile, at_most(32 / kBits, kSmall ? 8 : 2))>;
  using Window = typename All::Window;

  // Where pixel i of a window is, from its first pixel.
  static constexpr int place(int i) { return (i / Columns::kKernel * Columns::kIn + i % Columns::kKernel) * kChannels; }

  // The largest pixel so far, and its number.
  template <bool kMask, typename T>
  struct Largest {
    using Key = typename Ordered<kMask, T>::Key;
    Key value;
    Word<T> number;

    explicit Largest(const T& first) : value(Ordered<kMask, T>::key(first)), number{} {}

    void add(const T& pixel, int its_number) {
      const Key key = Ordered<kMask, T>::key(pixel);
      number = key > value ? Word<T>{} + static_cast<uint32_t>(its_number) : number;
      value = key > value ? key : value;
    }
  };

  // The largest pixel of the window whose first pixel on the image is at x.
  template <bool kMask, typename T>
  static Largest<kMask, T> largest(const T* x, const Window& at) {
    Largest<kMask, T> found(*x);
    if (All::kWhole || at.pixels() == kPixels) {
      found.number += 1;
#pragma GCC unroll 9
      for (int i = 1; i < kPixels; ++i) found.add(x[place(i)], i + 1);
    } else {
      found.number += static_cast<uint32_t>(at.first_row * Columns::kKernel + at.first_column + 1);
      for (int r = at.first_row; r < at.last_row; ++r) {
        const T* pixel = x + (r - at.first_row) * Columns::kIn * kChannels;
        for (int c = at.first_column; c < at.last_column; ++c, pixel += kChannels)
          found.add(*pixel, r * Columns::kKernel + c + 1);
      }
    }
    return found;
  }

  // What each pass does with a tile of kWidth channels; functions with a template parameter instead of generic lambdas, so that
  // an exported library needs no more than C++11.
  template <bool kMask, typename T>
  struct Forward {
    const T* x;
    T* y;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      const Window at(row, column);
      const T* const first = x + c + at.begin(at.first_row);
#pragma GCC unroll 8
      for (int t = 0; t < kWidth; ++t)
        y[output + t] = Ordered<kMask, T>::value(largest<kMask>(first + t, at).value);
    }
  };
  template <bool kMask, typename T>
  struct ForwardAndSave {
    const T* x;
    T* y;
    MaskWriter<T>& saved;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      const Window at(row, column);
      const T* const first = x + c + at.begin(at.first_row);
      Word<T> numbers{};
#pragma GCC unroll 8
      for (int t = 0; t < kWidth; ++t) {
        const Largest<kMask, T> found = largest<kMask>(first + t, at);
        y[output + t] = Ordered<kMask, T>::value(found.value);
        numbers |= (Ordered<kMask, T>::passes(found.value) ? found.number : Word<T>{}) << (kBits * t);
      }
      saved.put(numbers, kBits * kWidth);
    }
  };
  template <typename T>
  struct Backward {
    MaskReader<T>& saved;
    const T* dy;
    T* dx;

    template <int kWidth>
    void visit(int row, int column, int c, int output) const {
      const Window at(row, column);
      const Word<T> numbers = saved.take(kBits * kWidth);
#pragma GCC unroll 8
      for (int t = 0; t < kWidth; ++t)
        pass_on(numbers >> (kBits * t) & static_cast<uint32_t>((uint64_t{1} << kBits) - 1), dy[output + t], dx + c + t, at);
    }
  };

  // Vectors: each lane has its own largest pixel.
  template <typename Number, typename T>
  static void pass_on(const Number& number, const T& gradient, T* dx, const Window& at) {
    if (All::kWhole || at.pixels() == kPixels) {
#pragma GCC unroll 9
      for (int i = 0; i < kPixels; ++i)
        All::add_to(dx[at.begin(0) + place(i)], number == static_cast<uint32_t>(i + 1) ? gradient : T{});
      return;
    }
    for (int r = at.first_row; r < at.last_row; ++r) {
      T* pixel = dx + at.begin(r);
      for (int column = at.first_column; column < at.last_column; ++column, pixel += kChannels) {
        const uint32_t its_number = static_cast<uint32_t>(r * Columns::kKernel + column + 1);
        All::add_to(*pixel, number == its_number ? gradient : T{});
      }
    }
  }
  // A single number: all pixels but one keep their 0.
  template <typename T>
  static void pass_on(const uint32_t& number, const T& gradient, T* dx, const Window& at) {
    T* const first = dx + at.begin(at.first_row);
    const int skipped = at.first_row * Columns::kKernel + at.first_column;
    const int i = number != 0 ? static_cast<int>(number) - 1 : skipped;
    if constexpr (All::kTiled) {
#pragma GCC unroll 9
      for (int k = 0; k < kPixels; ++k) first[place(k)] = T{};
    }
    All::add_to(first[place(i) - place(skipped)], number != 0 ? gradient : T{});
  }
};

}  // namespace tmf::kernels
