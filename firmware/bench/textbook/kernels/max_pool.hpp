// Textbook max pooling for `bench kernels` to compare with: nested loops, the place of each largest pixel stored as an integer.
#pragma once

#include "kernels/axis.hpp"
#include "kernels/mask.hpp"

namespace tmf::kernels {

// Replaces core/kernels/max_pool.hpp, to the same bits. The tile size and the arena's place for a mask are not used.
template <typename Rows, typename Columns, int kChannels, int kTile>
struct MaxPool {
  template <bool kMask, typename T>
  static void forward(const T* x, T* y) {
    for_each([=](int output, int row, int column, int channel) {
      y[output] = x[largest(x, row, column, channel)];
    });
  }

  // A window without a largest pixel (NaN), or with y = 0 below a ReLU, passes no gradient on: its place is -1.
  template <bool kMask, typename T>
  static void forward(const T* x, T* y, T*) {
    for_each([=](int output, int row, int column, int channel) {
      const int place = largest(x, row, column, channel);
      y[output] = x[place];
      places<T>[output] = (kMask ? x[place] > T{} : x[place] == x[place]) ? place : -1;
    });
  }

  template <typename T>
  static void backward(const T*, const T* dy, T* dx) {
    for (int i = 0; i < Rows::kIn * Columns::kIn * kChannels; ++i) dx[i] = T{};
    for (int output = 0; output < kOutputs; ++output)
      if (places<T>[output] >= 0) dx[places<T>[output]] += dy[output];
  }

 private:
  static constexpr int kOutputs = Rows::kOut * Columns::kOut * kChannels;
  template <typename T>
  static inline int32_t places[kOutputs];

  template <typename Visit>
  static void for_each(const Visit& visit) {
    int output = 0;
    for (int row = 0; row < Rows::kOut; ++row) {
      for (int column = 0; column < Columns::kOut; ++column) {
        for (int channel = 0; channel < kChannels; ++channel) visit(output++, row, column, channel);
      }
    }
  }

  // The place of a window's largest pixel, among equals the first.
  template <typename T>
  static int largest(const T* x, int row, int column, int channel) {
    int found = -1;
    for (int r = 0; r < Rows::kKernel; ++r) {
      const int y_in = Rows::start(row) + r;
      if (y_in < 0 || y_in >= Rows::kIn) continue;
      for (int c = 0; c < Columns::kKernel; ++c) {
        const int x_in = Columns::start(column) + c;
        if (x_in < 0 || x_in >= Columns::kIn) continue;
        const int place = (y_in * Columns::kIn + x_in) * kChannels + channel;
        if (found < 0 || x[place] > x[found]) found = place;
      }
    }
    return found;
  }
};

}  // namespace tmf::kernels
