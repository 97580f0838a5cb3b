// A photoresistor on pin 34 of an ESP32 and the temperature of its chip, twice a second. While the button BOOT is held down, rows
// have the label 1: somebody is there. Compiled, not run on a board.
#include <Arduino.h>

class Sensor {
 public:
  bool begin() {
    pinMode(kButton, INPUT_PULLUP);
    next_ = millis();
    return true;
  }

  tmf::sensor::Reading read(float* row, int& label) {
    const auto late = static_cast<int32_t>(millis() - next_);
    if (late < 0) return tmf::sensor::Reading::kNothingNew;
    const bool after_gap = late >= static_cast<int32_t>(kPeriodMs);  // nobody has asked for a whole period
    next_ += after_gap ? static_cast<uint32_t>(late) + kPeriodMs : kPeriodMs;
    row[0] = static_cast<float>(analogRead(kLight)) / 4095.0f;
    row[1] = temperatureRead() / 50.0f;
    if (digitalRead(kButton) == LOW) label = 1;
    return after_gap ? tmf::sensor::Reading::kRowAfterGap : tmf::sensor::Reading::kRow;
  }

 private:
  static const uint8_t kLight = 34, kButton = 0;
  static const uint32_t kPeriodMs = 500;

  uint32_t next_ = 0;
};
