// The inertial sensor of an Arduino Nano 33 BLE Sense, Rev2 or the first one: acceleration in m/s², rotation in rad/s. Needs the
// library Arduino_BMI270_BMM150 or Arduino_LSM9DS1. Compiled, not run on a board.
#include <Arduino.h>
#if __has_include(<Arduino_BMI270_BMM150.h>)
#include <Arduino_BMI270_BMM150.h>
#else
#include <Arduino_LSM9DS1.h>
#endif

class Sensor {
 public:
  bool begin() { return IMU.begin() != 0; }

  tmf::sensor::Reading read(float* row, int&) {
    if (!IMU.accelerationAvailable() || !IMU.gyroscopeAvailable()) return tmf::sensor::Reading::kNothingNew;
    if (!IMU.readAcceleration(row[0], row[1], row[2]) || !IMU.readGyroscope(row[3], row[4], row[5])) {
      return tmf::sensor::Reading::kFault;
    }
    every_other_ = !every_other_;  // the chip measures about 100 times a second, the experiment takes 50
    if (every_other_) return tmf::sensor::Reading::kNothingNew;
    for (int i = 0; i < 3; ++i) {
      row[i] *= 9.80665f;            // from g
      row[3 + i] *= 0.017453292f;    // from degrees per second
    }
    return tmf::sensor::Reading::kRow;
  }

 private:
  bool every_other_ = false;
};
