// Textbook average pooling for `bench kernels` to compare with: nested loops, the positive pixels stored as bytes.
#pragma once

#include "kernels/axis.hpp"
#include "kernels/mask.hpp"

namespace tmf::kernels {

// Replaces core/kernels/avg_pool.hpp, to the same bits. The tile size and the arena's place for a mask are not used.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct AvgPool {
  template <typename T>
  static void forward(const T* x, T* y) {
    int output = 0;
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        for (int channel = 0; channel < kChannels; ++channel, ++output) {
          T sum{};
          int pixels = 0;
          for (int r = 0; r < Rows::kKernel; ++r) {
            const int y_in = Rows::start(row) + r;
            if (y_in < 0 || y_in >= Rows::kIn) continue;
            for (int c = 0; c < Columns::kKernel; ++c) {
              const int x_in = Columns::start(column) + c;
              if (x_in < 0 || x_in >= Columns::kIn) continue;
              sum += x[(y_in * Columns::kIn + x_in) * kChannels + channel];
              ++pixels;
            }
          }
          y[output] = sum / static_cast<float>(pixels);
        }
      }
    }
  }
  template <typename T>
  static void forward(const T* x, T* y, T*) {
    forward(x, y);
    for (int i = 0; i < kInputs; ++i) positive<T>[i] = x[i] > T{};
  }

  template <typename T>
  static void backward(const T* dy, T* dx) {
    for (int i = 0; i < kInputs; ++i) dx[i] = T{};
    int output = 0;
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        const int rows = Rows::last(row) - Rows::first(row), columns = Columns::last(column) - Columns::first(column);
        for (int channel = 0; channel < kChannels; ++channel, ++output) {
          const T share = dy[output] / static_cast<float>(rows * columns);
          for (int r = 0; r < Rows::kKernel; ++r) {
            const int y_in = Rows::start(row) + r;
            if (y_in < 0 || y_in >= Rows::kIn) continue;
            for (int c = 0; c < Columns::kKernel; ++c) {
              const int x_in = Columns::start(column) + c;
              if (x_in < 0 || x_in >= Columns::kIn) continue;
              dx[(y_in * Columns::kIn + x_in) * kChannels + channel] += share;
            }
          }
        }
      }
    }
  }
  template <typename T>
  static void backward(const T*, const T* dy, T* dx) {
    backward(dy, dx);
    for (int i = 0; i < kInputs; ++i) dx[i] = positive<T>[i] ? dx[i] : T{};
  }

 private:
  static constexpr int kInputs = Rows::kIn * Columns::kIn * kChannels;
  template <typename T>
  static inline bool positive[kInputs];
};

}  // namespace tmf::kernels
