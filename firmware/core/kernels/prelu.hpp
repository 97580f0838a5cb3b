// PReLU over [pixels, channels]: x if x > 0, else slope x, with a trained slope per channel.
#pragma once

namespace tmf::kernels {

// The gradient of a slope adds x dy over the pixels where x is not positive, in ascending order, to 0. y may be stored in place
// of x where no backward reads x, and dx in place of dy.
template <int kPixels, int kChannels>
struct PRelu {
  // W is T, or float if T is a vector and the weights are frozen, hence the same in all lanes.
  template <typename T, typename W>
  static void forward(const T* x, const W* slope, T* y) {
    for (int n = kPixels; n > 0; --n, x += kChannels, y += kChannels)
      for (int c = 0; c < kChannels; ++c) y[c] = x[c] > T{} ? x[c] : T(x[c] * slope[c]);
  }

  // Writes dx if kDx. Update changes the slopes, or leaves them (Hold). kMask is false.
  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* slope, T rate) {
    for (int c = 0; c < kChannels; ++c) {
      const T factor = slope[c] - T{};  // to every lane of T; + T{} would turn -0 into +0
      T sum = T{};
      for (int i = c; i < kPixels * kChannels; i += kChannels) {
        const T input = x[i];
        const T gradient = dy[i];
        if constexpr (Update::kMoves) sum += input > T{} ? T{} : T(input * gradient);
        if constexpr (kDx) dx[i] = input > T{} ? gradient : T(gradient * factor);
      }
      if constexpr (Update::kMoves) Update::move(slope + c, factor, rate * sum, rate);
    }
  }
};

}  // namespace tmf::kernels
