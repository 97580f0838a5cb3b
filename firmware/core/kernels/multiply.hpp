// Product of two tensors of one shape, or with factors per channel or per pixel; and the gradient of such factors.
#pragma once

namespace tmf::kernels {

// y [pixels, channels]. kPixelA and kChannelA are the strides of a, in floats, from pixel to pixel and from channel to channel;
// 0 where neighbours share a factor. kPixelB and kChannelB are those of b. y may be stored in place of an input of its size.
template <int kPixels, int kChannels, int kPixelA, int kChannelA, int kPixelB, int kChannelB>
struct Multiply {
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int n = kPixels; n > 0; --n, a += kPixelA, b += kPixelB, y += kChannels)
      for (int c = 0; c < kChannels; ++c) y[c] = a[c * kChannelA] * b[c * kChannelB];
  }
};

// The gradient of kFactors factors: each adds dy * x over its pixels and channels, in ascending order, to 0.
template <int kPixels, int kChannels, int kFactors, int kNextPixel, int kNextChannel>
struct FactorGradient {
  template <typename T>
  static void forward(const T* dy, const T* x, T* d) {
    for (int i = 0; i < kFactors; ++i) d[i] = T{};
    for (int n = kPixels; n > 0; --n, dy += kChannels, x += kChannels, d += kNextPixel)
      for (int c = 0; c < kChannels; ++c) d[c * kNextChannel] += dy[c] * x[c];
  }
};

}  // namespace tmf::kernels
