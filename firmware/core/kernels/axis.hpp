// One axis of a sliding window: which inputs an output sees, and which outputs see a given input or kernel element.
#pragma once

namespace tmf::kernels {

// kLength inputs, kOutputs outputs; a window of kElements moves kStep inputs per output and begins kBefore ahead of the first.
template <int kLength, int kOutputs, int kElements, int kStep, int kBefore>
struct Axis {
  static constexpr int kIn = kLength;
  static constexpr int kOut = kOutputs;
  static constexpr int kKernel = kElements;
  static constexpr int kStride = kStep;
  static constexpr bool kTiled = kBefore == 0 && kStep == kElements && kOutputs * kStep == kLength;  // each input once

  // The input under the window's first element, and the elements [first, last) that lie on inputs.
  static constexpr int start(int out) { return out * kStride - kBefore; }
  static constexpr int first(int out) { return max(0, -start(out)); }
  static constexpr int last(int out) { return min(kKernel, kIn - start(out)); }

  // The outputs [first_out, last_out) for which this kernel element lies on an input.
  static constexpr int first_out(int element) { return ceil_div(max(0, kBefore - element), kStride); }
  static constexpr int last_out(int element) { return min(kOut, ceil_div(max(0, kIn + kBefore - element), kStride)); }

  // Every kStride-th element from here on lies on this input for output `out`, if there is one: before the first wraps around.
  static constexpr int first_element(int in) { return static_cast<int>(static_cast<unsigned>(in + kBefore) % kStride); }
  static constexpr unsigned out(int in, int element) { return static_cast<unsigned>(in + kBefore - element) / kStride; }

 private:
  static constexpr int max(int a, int b) { return a > b ? a : b; }
  static constexpr int min(int a, int b) { return a < b ? a : b; }
  static constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
};

}  // namespace tmf::kernels
