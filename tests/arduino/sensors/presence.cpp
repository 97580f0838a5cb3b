// Reads the example's room sensor from a stand-in for the ESP32's core: prints the time, the label and the numbers of each row.
#include <cstdio>

#include <sensor/sensor.hpp>

#include <esp32dev_presence.cpp>

static unsigned long now = 4294967000ul;  // the clock wraps

extern "C" {
unsigned long millis() { return now; }
void pinMode(uint8_t, uint8_t) {}
uint16_t analogRead(uint8_t pin) { return pin == 34 ? 4095 : 0; }
int digitalRead(uint8_t pin) { return pin == 0 && now > 1000 && now < 2000 ? LOW : HIGH; }
float temperatureRead() { return 25.0f; }
}

int main() {
  static Sensor sensor;
  if (!sensor.begin()) return 1;
  for (uint32_t passed = 0; passed < 2600; passed += 20) {
    float row[2] = {};
    int label = tmf::sensor::kNoLabel;
    now = static_cast<uint32_t>(4294967000u + passed);
    if (sensor.read(row, label) == tmf::sensor::Reading::kRow) {
      std::printf("%u %d %.2f %.2f\n", static_cast<unsigned>(passed), label, static_cast<double>(row[0]), static_cast<double>(row[1]));
    }
  }
  now = static_cast<uint32_t>(now + 1700);  // the board was busy
  float row[2];
  int label;
  const bool after_gap = sensor.read(row, label) == tmf::sensor::Reading::kRowAfterGap;
  now = static_cast<uint32_t>(now + 480);
  const bool early = sensor.read(row, label) != tmf::sensor::Reading::kNothingNew;
  now = static_cast<uint32_t>(now + 20);
  const bool next = sensor.read(row, label) == tmf::sensor::Reading::kRow;
  std::printf("busy %d %d %d\n", after_gap, early, next);
}
