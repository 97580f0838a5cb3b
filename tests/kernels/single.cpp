// Runs each layer of layers.hpp with the simulation's kernels, of a single client and of one per lane, and with the core's, and names
// those whose bits differ.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "lanes.hpp"
#include "single/kernels.hpp"

namespace {

using tmf::kernels::Accumulate;
using tmf::kernels::Lanes;
using tmf::kernels::Sgd;
using tmf::sim::Floats;

// Numbers from -1 to 1, some of them 0.
std::vector<float> numbers(int count, uint32_t seed) {
  std::vector<float> made;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525 + 1013904223;
    made.push_back(seed >> 30 == 0 ? 0.0f : static_cast<float>(static_cast<int32_t>(seed)) / 2147483648.0f);
  }
  return made;
}

bool equal(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), sizeof(float) * a.size()) == 0;
}

// A layer's kernels for one update; T is float, or a vector with a client in each lane.
template <typename T>
struct Passes {
  void (*forward)(const T* x, const T* kernel, const T* bias, T* y);
  void (*backward)(const T* x, const T* dy, T* dx, T* kernel, T* bias, T rate);
};
template <typename T, typename Layer, typename Update, bool kMask>
constexpr Passes<T> kPasses{Layer::template forward<T, T>, Layer::template backward<Update, true, kMask, T, T>};

// The numbers of the clients from one on, in the lanes of T.
template <typename T>
std::vector<T> in_lanes(int count, uint32_t seed, uint32_t client) {
  std::vector<T> made(count);
  for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
    const std::vector<float> own = numbers(count, seed + 10 * (client + static_cast<uint32_t>(lane)));
    for (int i = 0; i < count; ++i) Lanes<T>::put(&made[i], lane, own[i]);
  }
  return made;
}

template <typename T>
std::vector<float> lane_of(const std::vector<T>& numbers, int lane) {
  std::vector<float> own;
  for (const T& number : numbers) own.push_back(Lanes<T>::get(&number, lane));
  return own;
}

// Weights are the layer's kernel and bias, behind which there are as many velocities or sums of gradients.
template <typename T>
struct Trained {
  std::vector<T> y, dx, weights;

  Trained(const Passes<T>& layer, int inputs, int outputs, int kernel_size, int bias_size, uint32_t client)
      : y(outputs), dx(inputs), weights(in_lanes<T>(2 * (kernel_size + bias_size), 1, client)) {
    std::vector<T> x = in_lanes<T>(inputs, 2, client), dy = in_lanes<T>(outputs, 3, client);
    for (T& value : x) value = tmf::kernels::rectified<true>(value);  // a mask is that of a ReLU's outputs
    T* const kernel = weights.data();
    layer.forward(x.data(), kernel, kernel + kernel_size, y.data());
    layer.backward(x.data(), dy.data(), dx.data(), kernel, kernel + kernel_size, tmf::sim::in_every_lane<T>(0.05f));
  }
};

struct Layer {
  const char* name;
  Passes<float> single, plain;
  Passes<Floats> lanes;
  int inputs, outputs, kernel, bias;

  template <typename T>
  bool same_bits(const Passes<T>& tested) const {
    if (tested.forward == nullptr) return true;  // has none of its own
    const Trained<T> a(tested, inputs, outputs, kernel, bias, 0);
    for (int lane = 0; lane < Lanes<T>::kCount; ++lane) {
      const Trained<float> b(plain, inputs, outputs, kernel, bias, static_cast<uint32_t>(lane));
      if (!equal(lane_of(a.y, lane), b.y) || !equal(lane_of(a.dx, lane), b.dx) || !equal(lane_of(a.weights, lane), b.weights))
        return false;
    }
    return true;
  }
};

// Updates of a layer with kWeights weights.
template <int kWeights>
using Plain = Sgd<>;
template <int kWeights>
using DecayAndMomentum = Sgd</*weight_decay=*/0x3d800000, /*momentum=*/0x3f600000, /*velocity=*/kWeights>;
template <int kWeights>
using Sum = Accumulate</*weight_decay=*/0x3d800000, /*sum=*/kWeights>;

}  // namespace

// All kernels of a client per lane, also those that this machine's vector unit has too few registers for.
namespace tmf::in_lanes::kernels {

using namespace tmf::kernels;  // NOLINT: all others

template <typename Rows, typename Columns, int kChannels, int kFilters, bool kRelu, int, int>
using Conv2d = sim::lanes::Conv2d<Rows, Columns, kChannels, kFilters, kRelu>;
template <int kInputs, int kUnits, bool kRelu, int kUnitTile, int kInputTile>
using Dense = sim::lanes::Dense<kInputs, kUnits, kRelu, kUnitTile, kInputTile>;

}  // namespace tmf::in_lanes::kernels

#include "layers.hpp"

int main() {
  int differ = 0;
  for (const Layer& layer : kLayers) {
    const bool single = layer.same_bits(layer.single), lanes = layer.same_bits(layer.lanes);
    if (!single) std::printf("%s of a single client\n", layer.name);
    if (!lanes) std::printf("%s of a client per lane\n", layer.name);
    if (!single || !lanes) ++differ;
  }
  return differ == 0 ? 0 : 1;
}
