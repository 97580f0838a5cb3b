// A microphone on an ESP32's I2S pins, for instance an INMP441 or ICS-43434, by ESP-IDF's driver. A row is one sample.
//
// SCK to GPIO 26, WS to 25, SD to 33, L/R to ground. The driver's own memory keeps an eighth of a second.
#include <Arduino.h>
#include <driver/i2s.h>

#include <sensor/sensor.hpp>

class Sensor {
 public:
  bool begin() {
    if (installed_) i2s_driver_uninstall(I2S_NUM_0);  // the host has begun to record
    i2s_config_t config = {};
    config.mode = static_cast<i2s_mode_t>(I2S_MODE_MASTER | I2S_MODE_RX);
    config.sample_rate = static_cast<uint32_t>(tmf::sensor::kRate);
    config.bits_per_sample = I2S_BITS_PER_SAMPLE_32BIT;  // such microphones send 24 bits in 32
    config.channel_format = I2S_CHANNEL_FMT_ONLY_LEFT;
    config.communication_format = I2S_COMM_FORMAT_STAND_I2S;
    config.dma_buf_count = 8;
    config.dma_buf_len = static_cast<int>(tmf::sensor::kRate) / 64;
    i2s_pin_config_t pins = {};
    pins.mck_io_num = I2S_PIN_NO_CHANGE;
    pins.bck_io_num = 26;
    pins.ws_io_num = 25;
    pins.data_out_num = I2S_PIN_NO_CHANGE;
    pins.data_in_num = 33;
    count_ = used_ = 0;
    installed_ = i2s_driver_install(I2S_NUM_0, &config, kEvents, &events_) == ESP_OK;
    return installed_ && i2s_set_pin(I2S_NUM_0, &pins) == ESP_OK;
  }

  // The user's label comes by `tinymetafed label`; a button would set `label` here.
  tmf::sensor::Reading read(float* row, int&) {
    if (used_ == count_) {
      size_t bytes = 0;
      if (i2s_read(I2S_NUM_0, block_, sizeof block_, &bytes, 0) != ESP_OK) return tmf::sensor::Reading::kFault;
      count_ = bytes / sizeof block_[0];
      used_ = 0;
      i2s_event_t event;
      while (xQueueReceive(events_, &event, 0) == pdTRUE) lost_ = lost_ || event.type == I2S_EVENT_RX_Q_OVF;
      if (count_ == 0) return tmf::sensor::Reading::kNothingNew;
    }
    row[0] = static_cast<float>(block_[used_++] >> kShift);
    const bool after_gap = lost_;
    lost_ = false;
    return after_gap ? tmf::sensor::Reading::kRowAfterGap : tmf::sensor::Reading::kRow;
  }

 private:
  static constexpr int kShift = 14;  // 18 bits are left, of which 16 are usual: these microphones are quiet
  static constexpr int kEvents = 8;

  int32_t block_[64];
  size_t count_;
  size_t used_;
  QueueHandle_t events_;
  bool installed_;
  bool lost_;
};
