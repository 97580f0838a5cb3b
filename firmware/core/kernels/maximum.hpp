// Maximum and minimum of two tensors of one shape, and the gradients of both inputs.
#pragma once

#include "mask.hpp"

namespace tmf::kernels {

// The larger of two values if kLargest, else the smaller one; of equal values the first.
template <int kSize, bool kLargest>
struct Extreme {
  // y may be stored in place of a or b.
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = is_first(a[i], b[i]) ? a[i] : b[i];
  }

  // Also saves a mask of the values that come from a.
  template <typename T>
  static void forward(const T* a, const T* b, T* y, T* mask) {
    MaskWriter<T> saved(mask);
    int i = 0;
    for (; i + kTile <= kSize; i += kTile) forward_tile<kTile>(saved, a + i, b + i, y + i);
    if constexpr (kSize % kTile != 0) forward_tile<kSize % kTile>(saved, a + i, b + i, y + i);
    saved.finish();
  }

 private:
  static constexpr int kTile = 8;

  template <typename T>
  static auto is_first(const T& a, const T& b) -> decltype(a >= b) {
    return kLargest ? a >= b : a <= b;
  }

  template <int kWidth, typename T>
  static void forward_tile(MaskWriter<T>& saved, const T* a, const T* b, T* y) {
    saved.put(mask_where<kWidth, T>([&](int t) { return is_first(a[t], b[t]); }), kWidth);
    for (int t = 0; t < kWidth; ++t) y[t] = is_first(a[t], b[t]) ? a[t] : b[t];
  }
};

template <int kSize>
using Maximum = Extreme<kSize, true>;
template <int kSize>
using Minimum = Extreme<kSize, false>;

// The gradient of one input: dy where the mask says that the value came from it, else 0. dx may be stored in place of dy.
template <int kSize, bool kFirst>
struct Chosen {
  template <typename T>
  static void forward(const T* dy, const T* mask, T* dx) {
    MaskReader<T> saved(mask);
    for (int i = 0; i < kSize; ++i) {
      const Word<T> first = saved.take(1);
      dx[i] = masked_value<T>(kFirst ? first : ~first, 0, dy[i]);
    }
  }
};

}  // namespace tmf::kernels
