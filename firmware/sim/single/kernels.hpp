// Comes before core/kernels.hpp in the include path: layers of a single client (T is float) take its sums side by side.
#pragma once

#include_next <kernels.hpp>

#include <type_traits>

#include "../lanes/conv2d.hpp"
#include "../lanes/dense.hpp"
#include "conv2d.hpp"
#include "dense.hpp"
#include "depthwise_conv2d.hpp"

namespace tmf::sim::single {

// The kernels of Single if T is float and its layer is not too large; else those of Lanes.
template <typename Lanes, typename Single>
struct ByNumbers {
  template <typename T, typename W>
  static void forward(const T* x, const W* kernel, const W* bias, T* y) {
    Of<T>::forward(x, kernel, bias, y);
  }

  template <typename Update, bool kDx, bool kMask, typename T, typename W>
  static void backward(const T* x, const T* dy, T* dx, W* kernel, W* bias, T rate) {
    Of<T>::template backward<Update, kDx, kMask>(x, dy, dx, kernel, bias, rate);
  }

 private:
  template <typename T>
  using Of = std::conditional_t<std::is_same_v<T, float> && Single::kFits, Single, Lanes>;
};

template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
using LanesConv2d = std::conditional_t<lanes::kHasManyRegisters, lanes::Conv2d<Rows, Columns, kChannels, kFilters, kRelu>,
                                       kernels::Conv2d<Rows, Columns, kChannels, kFilters, kRelu, kFilterTile, kChannelTile>>;

}  // namespace tmf::sim::single

namespace tmf::kernels {

// In a vector, so without branches, which would be guessed wrongly: how large a gradient is depends on the sample.
template <>
inline float clamp<float>(const float& d, const float& limit) {
  using Numbers = sim::single::Run<4>;
  return clamp<Numbers>(d - Numbers{}, limit - Numbers{})[0];
}

}  // namespace tmf::kernels

// The generated model is in tmf::model and finds these before those of tmf::kernels.
namespace tmf::model::kernels {

using namespace tmf::kernels;  // NOLINT: all others

template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int kFilterTile, int kChannelTile>
using Conv2d = sim::single::ByNumbers<sim::single::LanesConv2d<Rows, Columns, kChannels, kFilters, kRelu, kFilterTile, kChannelTile>,
                                      sim::single::Conv2d<Rows, Columns, kChannels, kFilters, kRelu>>;

template <int kInputs, int kUnits, bool kRelu, int kUnitTile, int kInputTile>
using Dense = sim::single::ByNumbers<sim::lanes::Dense<kInputs, kUnits, kRelu, kUnitTile, kInputTile>,
                                     sim::single::Dense<kInputs, kUnits, kRelu>>;

template <typename Rows, typename Columns, int kChannels, bool kRelu, typename Tiles>
using DepthwiseConv2d = sim::single::ByNumbers<tmf::kernels::DepthwiseConv2d<Rows, Columns, kChannels, kRelu, Tiles>,
                                               sim::single::DepthwiseConv2d<Rows, Columns, kChannels, kRelu>>;

}  // namespace tmf::model::kernels
