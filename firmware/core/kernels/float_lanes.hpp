// The floats of a number type T, each of which belongs to one client.
#pragma once

#include <cstring>

namespace tmf::kernels {

// One float on a device; in the simulation one for each client (lane). The tests specialise it for double.
template <typename T>
struct Lanes {
  static constexpr int kCount = static_cast<int>(sizeof(T) / sizeof(float));

  static float get(const T* place, int lane) {
    float value;
    std::memcpy(&value, reinterpret_cast<const char*>(place) + sizeof(float) * lane, sizeof value);
    return value;
  }
  static void put(T* place, int lane, float value) {
    std::memcpy(reinterpret_cast<char*>(place) + sizeof(float) * lane, &value, sizeof value);
  }
};

}  // namespace tmf::kernels
