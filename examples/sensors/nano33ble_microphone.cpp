// The microphone of an Arduino Nano 33 BLE Sense, by Arduino's library PDM. A row is one sample.
//
// The library gives 16,000 samples per second; at task.sound.rate = 8000 a row is the mean of two.
#include <Arduino.h>
#include <PDM.h>

#include <sensor/sensor.hpp>

namespace microphone {

constexpr int kHertz = 16000;
constexpr int kMean = kHertz / static_cast<int>(tmf::sensor::kRate);
static_assert(kMean * static_cast<int>(tmf::sensor::kRate) == kHertz, "task.sound.rate is 16000, or a whole part of it");

constexpr uint32_t kRing = 4096;  // samples, a quarter of a second: a training step must not take longer
int16_t ring[kRing];
volatile uint32_t heard = 0;  // samples so far; written by the interrupt handler alone
uint32_t read_so_far = 0;

// Called by the library's interrupt handler.
void take() {
  int16_t block[64];
  uint32_t at = heard;
  for (int left = PDM.available(); left > 0;) {
    const int size = PDM.read(block, left < static_cast<int>(sizeof block) ? left : static_cast<int>(sizeof block));
    if (size <= 0) break;
    left -= size;
    for (int i = 0; i < size / 2; ++i) ring[at++ % kRing] = block[i];
  }
  heard = at;
}

}  // namespace microphone

class Sensor {
 public:
  bool begin() {
    PDM.end();  // it may have begun already: the host has begun to record
    PDM.onReceive(microphone::take);
    PDM.setGain(20);
    microphone::read_so_far = microphone::heard;
    return PDM.begin(1, microphone::kHertz) != 0;
  }

  // The user's label comes by `tinymetafed label`; a button would set `label` here.
  tmf::sensor::Reading read(float* row, int&) {
    using namespace microphone;
    const uint32_t waiting = heard - read_so_far;
    if (waiting < static_cast<uint32_t>(kMean)) return tmf::sensor::Reading::kNothingNew;
    const bool lost = waiting > kRing - kRing / 8;  // the handler is about to overwrite what is read here, or has done so
    if (lost) read_so_far = heard - static_cast<uint32_t>(kMean);
    float sum = 0;
    for (int i = 0; i < kMean; ++i) sum += static_cast<float>(ring[read_so_far++ % kRing]);
    row[0] = sum / static_cast<float>(kMean);
    return lost ? tmf::sensor::Reading::kRowAfterGap : tmf::sensor::Reading::kRow;
  }
};
