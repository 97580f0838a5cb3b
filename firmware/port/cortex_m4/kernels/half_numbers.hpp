// Numbers of binary16 on cores with the floating-point extension FPv4-SP: VCVTB and VCVTT convert the lower and the upper half of a
// register. With the FPSCR's value after a reset they round as IEEE 754 does, and as core/kernels/half_numbers.hpp.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf::kernels {

inline float rounded_to_half(float x) {
  float half, rounded;
  asm("vcvtb.f16.f32 %0, %1" : "=t"(half) : "t"(x));
  asm("vcvtb.f32.f16 %0, %1" : "=t"(rounded) : "t"(half));
  return rounded;
}

inline uint32_t packed_halves(float first, float second) {
  float both;
  asm("vcvtb.f16.f32 %0, %1" : "=t"(both) : "t"(first));
  asm("vcvtt.f16.f32 %0, %1" : "+t"(both) : "t"(second));
  uint32_t bits;
  std::memcpy(&bits, &both, sizeof bits);
  return bits;
}

// The word in a register of the floating-point unit.
inline float in_register(uint32_t both) {
  float word;
  std::memcpy(&word, &both, sizeof word);
  return word;
}

template <typename T>
T first_half(uint32_t both) {
  T number;
  asm("vcvtb.f32.f16 %0, %1" : "=t"(number) : "t"(in_register(both)));
  return number;
}

template <typename T>
T second_half(uint32_t both) {
  T number;
  asm("vcvtt.f32.f16 %0, %1" : "=t"(number) : "t"(in_register(both)));
  return number;
}

}  // namespace tmf::kernels
