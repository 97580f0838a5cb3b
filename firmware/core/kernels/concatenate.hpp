// Concatenation of two tensors along an axis, and the gradients of its inputs.
#pragma once

namespace tmf::kernels {

// kTimes times: kFirst values of a, then kSecond values of b.
template <int kTimes, int kFirst, int kSecond>
struct Concatenate {
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int n = kTimes; n > 0; --n) {
      for (int i = 0; i < kFirst; ++i) *y++ = *a++;
      for (int i = 0; i < kSecond; ++i) *y++ = *b++;
    }
  }
};

// kTimes times: kSize of kWhole values, from kStart on.
template <int kTimes, int kWhole, int kStart, int kSize>
struct Slice {
  template <typename T>
  static void forward(const T* dy, T* dx) {
    for (int n = kTimes; n > 0; --n, dy += kWhole)
      for (int i = 0; i < kSize; ++i) *dx++ = dy[kStart + i];
  }
};

}  // namespace tmf::kernels
