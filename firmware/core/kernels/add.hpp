// Sum of two tensors of one shape: for residual connections, and for the gradient of a tensor that several layers read.
#pragma once

namespace tmf::kernels {

// y may be stored in place of a or b. There is no backward: dy is the gradient of both a and b.
template <int kSize>
struct Add {
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int n = kSize / kTile; n > 0; --n, a += kTile, b += kTile, y += kTile) forward_tile<kTile>(a, b, y);
    if constexpr (kSize % kTile != 0) forward_tile<kSize % kTile>(a, b, y);
  }

 private:
  static constexpr int kTile = 4;

  // Loads one behind the other take fewer cycles each.
  template <int kCount, typename T>
  static void forward_tile(const T* a, const T* b, T* y) {
    T sum[kCount];
#pragma GCC unroll 4
    for (int t = 0; t < kCount; ++t) sum[t] = a[t] + b[t];
#pragma GCC unroll 4
    for (int t = 0; t < kCount; ++t) y[t] = sum[t];
  }
};

}  // namespace tmf::kernels
