// Activations in float16: rounding in the forward pass, and packing of rounded numbers while they wait for the backward pass.
#pragma once

#include <kernels/half_numbers.hpp>  // in angle brackets: a port that comes first in the include path may have its own version

#include <cstdint>
#include <cstring>

#include "mask.hpp"

namespace tmf::kernels {

// y may be stored in place of x.
template <int kSize>
struct RoundToHalf {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize; ++i) y[i] = rounded_to_half(x[i]);
  }
};

// Two numbers in each T of y, the first in the lower bits. They are copied as bytes: two numbers together may look like a NaN.
template <int kSize>
struct PackHalf {
  template <typename T>
  static void forward(const T* x, T* y) {
    int i = 0;
    for (; i + 2 <= kSize; i += 2) put(y++, packed_halves(x[i], x[i + 1]));
    if constexpr (kSize % 2 != 0) put(y, packed_halves(x[i], T{}));
  }

 private:
  template <typename T>
  static void put(T* place, Word<T> both) {
    std::memcpy(static_cast<void*>(place), &both, sizeof both);
  }
};

template <int kSize>
struct UnpackHalf {
  template <typename T>
  static void forward(const T* x, T* y) {
    int i = 0;
    for (; i + 2 <= kSize; i += 2) {
      const Word<T> both = get(x++);
      y[i] = first_half<T>(both);
      y[i + 1] = second_half<T>(both);
    }
    if constexpr (kSize % 2 != 0) y[i] = first_half<T>(get(x));
  }

 private:
  template <typename T>
  static Word<T> get(const T* place) {
    Word<T> both;
    std::memcpy(&both, place, sizeof both);
    return both;
  }
};

}  // namespace tmf::kernels
