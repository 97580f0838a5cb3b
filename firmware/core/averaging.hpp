// The empty version of averaged predictions, for firmware that predicts each input once. With [predict], a generated header of
// this name replaces it and includes augment/averaging.hpp.
#pragma once

#include <cstdint>

namespace tmf {

// The interface that augment/averaging.hpp describes; takes neither memory nor time.
class Averaging {
 public:
  static constexpr bool kAverages = false;
  static constexpr uint32_t kViews = 1;
  static void move(float*, uint32_t) {}
  static void run(const float* p, float* a);  // never called, and never defined
};

}  // namespace tmf
