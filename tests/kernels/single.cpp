// Runs each layer of layers.hpp with the kernels of a single simulated client and with the core's, and names those whose bits differ.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "single/kernels.hpp"

namespace {

using tmf::kernels::Accumulate;
using tmf::kernels::Sgd;

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

// A layer's kernels for one update.
struct Passes {
  void (*forward)(const float* x, const float* kernel, const float* bias, float* y);
  void (*backward)(const float* x, const float* dy, float* dx, float* kernel, float* bias, float rate);
};
template <typename Layer, typename Update, bool kMask>
constexpr Passes kPasses{Layer::template forward<float, float>, Layer::template backward<Update, true, kMask, float, float>};

// Weights are the layer's kernel and bias, behind which there are as many velocities or sums of gradients.
struct Trained {
  std::vector<float> y, dx, weights;

  Trained(const Passes& layer, int inputs, int outputs, int kernel_size, int bias_size)
      : y(outputs, 9.0f), dx(inputs, 9.0f), weights(numbers(2 * (kernel_size + bias_size), 1)) {
    std::vector<float> x = numbers(inputs, 2), dy = numbers(outputs, 3);
    for (float& value : x) value = tmf::kernels::rectified<true>(value);  // a mask is that of a ReLU's outputs
    float* const kernel = weights.data();
    layer.forward(x.data(), kernel, kernel + kernel_size, y.data());
    layer.backward(x.data(), dy.data(), dx.data(), kernel, kernel + kernel_size, 0.05f);
  }
};

struct Layer {
  const char* name;
  Passes single, plain;
  int inputs, outputs, kernel, bias;

  bool same_bits() const {
    const Trained a(single, inputs, outputs, kernel, bias), b(plain, inputs, outputs, kernel, bias);
    return equal(a.y, b.y) && equal(a.dx, b.dx) && equal(a.weights, b.weights);
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

#include "layers.hpp"

int main() {
  int differ = 0;
  for (const Layer& layer : kLayers) {
    if (layer.same_bits()) continue;
    std::printf("%s\n", layer.name);
    ++differ;
  }
  return differ == 0 ? 0 : 1;
}
