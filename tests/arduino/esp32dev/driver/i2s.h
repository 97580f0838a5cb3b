// A stand-in for ESP-IDF's I2S driver: a test plays samples, as a microphone on the pins would.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

typedef int esp_err_t;
typedef void* QueueHandle_t;
enum { ESP_OK = 0, pdTRUE = 1, I2S_PIN_NO_CHANGE = -1 };
enum i2s_port_t { I2S_NUM_0 };
enum i2s_mode_t { I2S_MODE_MASTER = 1, I2S_MODE_RX = 8 };
enum i2s_bits_per_sample_t { I2S_BITS_PER_SAMPLE_32BIT = 32 };
enum i2s_channel_fmt_t { I2S_CHANNEL_FMT_ONLY_LEFT = 4 };
enum i2s_comm_format_t { I2S_COMM_FORMAT_STAND_I2S = 1 };
enum i2s_event_type_t { I2S_EVENT_RX_DONE, I2S_EVENT_RX_Q_OVF };
struct i2s_event_t {
  i2s_event_type_t type;
  size_t size;
};
struct i2s_config_t {
  i2s_mode_t mode;
  uint32_t sample_rate;
  i2s_bits_per_sample_t bits_per_sample;
  i2s_channel_fmt_t channel_format;
  i2s_comm_format_t communication_format;
  int intr_alloc_flags;
  int dma_buf_count;
  int dma_buf_len;
  bool use_apll;
  bool tx_desc_auto_clear;
  int fixed_mclk;
};
struct i2s_pin_config_t {
  int mck_io_num;
  int bck_io_num;
  int ws_io_num;
  int data_out_num;
  int data_in_num;
};

// What the test plays, and whether the driver has lost samples before it.
struct StandInMicrophone {
  const int32_t* samples;
  size_t left;
  bool lost;
  bool installed;
};
inline StandInMicrophone microphone_on_pins;

inline esp_err_t i2s_driver_install(i2s_port_t, const i2s_config_t* config, int, void* queue) {
  *static_cast<QueueHandle_t*>(queue) = &microphone_on_pins;
  microphone_on_pins.installed = config->sample_rate > 0 && config->dma_buf_len >= 8 && config->dma_buf_len <= 1024;
  return microphone_on_pins.installed ? ESP_OK : -1;
}
inline esp_err_t i2s_driver_uninstall(i2s_port_t) { return ESP_OK; }
inline esp_err_t i2s_set_pin(i2s_port_t, const i2s_pin_config_t*) { return ESP_OK; }
inline esp_err_t i2s_read(i2s_port_t, void* to, size_t size, size_t* bytes, uint32_t) {
  StandInMicrophone& from = microphone_on_pins;
  const size_t count = size / 4 < from.left ? size / 4 : from.left;
  if (count > 0) std::memcpy(to, from.samples, 4 * count);
  from.samples += count;
  from.left -= count;
  *bytes = 4 * count;
  return ESP_OK;
}
inline int xQueueReceive(QueueHandle_t, void* event, uint32_t) {
  if (!microphone_on_pins.lost) return 0;
  microphone_on_pins.lost = false;
  static_cast<i2s_event_t*>(event)->type = I2S_EVENT_RX_Q_OVF;
  return pdTRUE;
}
