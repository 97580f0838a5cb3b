// Product of two tensors of one shape, or with factors per channel or per pixel; and the gradient of such factors.
#pragma once

namespace tmf::kernels {

// y [pixels, channels]. Neighbouring pixels of a are kPixelA floats apart and neighbouring channels kChannelA, 0 where they
// have the same factor; so are those of b. y may be stored in place of an input that has as many values.
template <int kPixels, int kChannels, int kPixelA, int kChannelA, int kPixelB, int kChannelB>
struct Multiply {
  template <typename T>
  static void forward(const T* a, const T* b, T* y) {
    for (int n = kPixels; n > 0; --n, a += kPixelA, b += kPixelB, y += kChannels)
      for (int c = 0; c < kChannels; ++c) y[c] = a[c * kChannelA] * b[c * kChannelB];
  }
};

// Adds dy * x to 0 for each factor, over pixels and channels in ascending order.
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
