// C functions for pools of many shapes, over floats or, with LANES, over GCC vectors; compiled with the core's kernels and with
// textbook ones.
#include <kernels/avg_pool.hpp>
#include <kernels/max_pool.hpp>

#ifdef LANES
typedef float T __attribute__((vector_size(4 * LANES)));
namespace tmf::kernels {
template <>
struct WordOf<T> {
  typedef uint32_t Type __attribute__((vector_size(4 * LANES)));
};
}  // namespace tmf::kernels
#else
using T = float;
#endif

namespace {

using namespace tmf;
using namespace kernels;

struct Case {
  int inputs, outputs;
  // y without and with what the backward pass reads, and dx; each for any input, and for the output of a ReLU.
  void (*run)(const T* x, const T* dy, T* mask, T* y, T* dx, bool relu);
};

template <typename Pool>
void max_pool(const T* x, const T* dy, T* mask, T* y, T* dx, bool relu) {
  relu ? Pool::template forward<true>(x, y) : Pool::template forward<false>(x, y);
  y += Pool::kOutputs;
  relu ? Pool::template forward<true>(x, y, mask) : Pool::template forward<false>(x, y, mask);
  Pool::backward(mask, dy, dx);
}

template <typename Pool>
void avg_pool(const T* x, const T* dy, T* mask, T* y, T* dx, bool relu) {
  Pool::forward(x, y);
  y += Pool::kOutputs;
  relu ? Pool::forward(x, y, mask) : Pool::forward(x, y);
  relu ? Pool::backward(mask, dy, dx) : Pool::backward(dy, dx);
}

template <typename Rows, typename Columns, int kChannels>
struct Sizes {
  static constexpr int kInputs = Rows::kIn * Columns::kIn * kChannels, kOutputs = Rows::kOut * Columns::kOut * kChannels;
};
template <typename Rows, typename Columns, int kChannels>
struct Max : Sizes<Rows, Columns, kChannels>, MaxPool<Rows, Columns, kChannels, 8> {
  using Sizes<Rows, Columns, kChannels>::kOutputs;
};
template <typename Rows, typename Columns, int kChannels>
struct Avg : Sizes<Rows, Columns, kChannels>, AvgPool<Rows, Columns, kChannels, 8> {
  using Sizes<Rows, Columns, kChannels>::kOutputs;
};

template <typename Rows, typename Columns, int kChannels>
constexpr Case kMax{Sizes<Rows, Columns, kChannels>::kInputs, Sizes<Rows, Columns, kChannels>::kOutputs,
                    max_pool<Max<Rows, Columns, kChannels>>};
template <typename Rows, typename Columns, int kChannels>
constexpr Case kAvg{Sizes<Rows, Columns, kChannels>::kInputs, Sizes<Rows, Columns, kChannels>::kOutputs,
                    avg_pool<Avg<Rows, Columns, kChannels>>};

constexpr Case kCases[] = {CASES};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int inputs(int i) { return kCases[i].inputs; }
EXPORT int outputs(int i) { return kCases[i].outputs; }
EXPORT void run(int i, const void* x, const void* dy, void* mask, void* y, void* dx, int relu) {
  kCases[i].run(static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(mask), static_cast<T*>(y),
                static_cast<T*>(dx), relu != 0);
}
