// Stand-in for the library Arduino_BMI270_BMM150 1.2: the functions that our example calls, as in the original. A test implements them.
#pragma once

class BoschSensorClass {
 public:
  int begin();
  int readAcceleration(float& x, float& y, float& z);  // g
  int accelerationAvailable();
  int readGyroscope(float& x, float& y, float& z);  // degrees per second
  int gyroscopeAvailable();
};

extern BoschSensorClass IMU;
