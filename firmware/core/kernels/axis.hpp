// One axis of a sliding window: which inputs an output reads, and which outputs read an input or use a kernel element.
#pragma once

namespace tmf::kernels {

// kLength inputs and kOutputs outputs. The window has kElements elements, moves kStep inputs per output and starts kBefore
// inputs before the first one (padding).
template <int kLength, int kOutputs, int kElements, int kStep, int kBefore>
struct Axis {
  static constexpr int kIn = kLength;
  static constexpr int kOut = kOutputs;
  static constexpr int kKernel = kElements;
  static constexpr int kStride = kStep;
  // Whether the windows cover each input exactly once.
  static constexpr bool kTiled = kBefore == 0 && kStep == kElements && kOutputs * kStep == kLength;

  // The input at the window's first element, and the range [first, last) of elements that lie on inputs.
  static constexpr int start(int out) { return out * kStride - kBefore; }
  static constexpr int first(int out) { return kBefore == 0 ? 0 : max(0, -start(out)); }
  static constexpr int last(int out) { return start(kOut - 1) + kKernel <= kIn ? kKernel : min(kKernel, kIn - start(out)); }

  // The range [first_out, last_out) of outputs for which a kernel element lies on an input.
  static constexpr int first_out(int element) { return ceil_div(max(0, kBefore - element), kStride); }
  static constexpr int last_out(int element) { return min(kOut, ceil_div(max(0, kIn + kBefore - element), kStride)); }

  // The last output whose window lies on inputs as a whole; before the first output if there is none.
  static constexpr int last_whole_out() {
    return kLength + kBefore < kElements ? -1 : min(kOut - 1, (kLength + kBefore - kElements) / kStride);
  }

  // An input contributes to outputs through every kStride-th element of [first_element, last_element); `out` is the output
  // for one of these elements.
  static constexpr int first_element(int in) {
    return kIn + kBefore <= kOut * kStride ? (in + kBefore) % kStride
                                           : max((in + kBefore) % kStride, in + kBefore - (kOut - 1) * kStride);
  }
  static constexpr int last_element(int in) { return kKernel <= kBefore + 1 ? kKernel : min(kKernel, in + kBefore + 1); }
  static constexpr int out(int in, int element) {
    return static_cast<int>(static_cast<unsigned>(in + kBefore - element) / kStride);
  }

  // Whether an output and the next one use the same kernel elements, and whether an input and the one a stride later do.
  static constexpr bool outputs_alike(int out) {
    return out + 1 < kOut && first(out) == first(out + 1) && last(out) == last(out + 1);
  }
  static constexpr bool inputs_alike(int in) {
    return in + kStride < kIn && first_element(in) == first_element(in + kStride) &&
           last_element(in) == last_element(in + kStride);
  }
  // Whether a kernel element and the next one lie on inputs for the same outputs.
  static constexpr bool elements_alike(int element) {
    return element + 1 < kKernel && first_out(element) == first_out(element + 1) &&
           last_out(element) == last_out(element + 1);
  }

 private:
  static constexpr int max(int a, int b) { return a > b ? a : b; }
  static constexpr int min(int a, int b) { return a < b ? a : b; }
  static constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
};

}  // namespace tmf::kernels
