// Reads the example's inertial sensor from a stand-in: prints each reading, and the numbers of its rows.
#include <cstdio>

#include <sensor/sensor.hpp>

#include <nano33ble_imu.cpp>

BoschSensorClass IMU;

static int step = 0;  // a new measurement at each step that is a multiple of 3; the chip fails from step 12 on

int BoschSensorClass::begin() { return 1; }
int BoschSensorClass::accelerationAvailable() { return step % 3 == 0; }
int BoschSensorClass::gyroscopeAvailable() { return 1; }

int BoschSensorClass::readAcceleration(float& x, float& y, float& z) {
  x = static_cast<float>(step);
  y = 0.0f;
  z = 1.0f;
  return step < 12;
}

int BoschSensorClass::readGyroscope(float& x, float& y, float& z) {
  x = 180.0f;
  y = -180.0f;
  z = 0.0f;
  return 1;
}

int main() {
  static Sensor sensor;
  if (!sensor.begin()) return 1;
  for (; step < 14; ++step) {
    float row[6] = {};
    int label = tmf::sensor::kNoLabel;
    const auto reading = sensor.read(row, label);
    std::printf("%d %d", static_cast<int>(reading), label);
    if (reading == tmf::sensor::Reading::kRow)
      for (const float number : row) std::printf(" %.3f", static_cast<double>(number));
    std::printf("\n");
  }
}
