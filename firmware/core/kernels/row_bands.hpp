// Images that are there a few rows at a time: which rows of outputs a kernel computes, and sums that continue from band to band.
#pragma once

#include "pixel_groups.hpp"

namespace tmf::kernels {

// All rows of outputs; and the rows [from, until). Rows is an Axis.
template <typename Rows>
struct AllRows {
  static constexpr int from = 0, until = Rows::kOut;
};
template <typename Rows>
struct SomeRows {
  int from, until;
};

// The rows of outputs, of all or of some, for which a row of the kernel lies on the image.
template <typename Rows>
constexpr int first_out(int element) { return Rows::first_out(element); }
template <typename Rows>
constexpr int last_out(int element) { return Rows::last_out(element); }
template <typename Rows>
constexpr int first_out(int element, const SomeRows<Rows>& some) { return at_least(Rows::first_out(element), some.from); }
template <typename Rows>
constexpr int last_out(int element, const SomeRows<Rows>& some) { return at_most(Rows::last_out(element), some.until); }

// An image all rows of which are there.
template <typename T>
struct WholeImage {
  static constexpr bool kWhole = true;
  const T* const x;

  const T* rows(int) const { return x; }
};

// Adds to gradients that were begun with other rows of outputs, in place of an update.
struct Continue {
  static constexpr bool kMoves = true, kSubtracts = false;

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

}  // namespace tmf::kernels
