// Stand-in for the library PubSubClient 2.8, written for these tests: the functions that our line uses, as in the original, and
// behind them MQTT 3.1.1 over the sketch's connection. As there, a packet that does not fit the buffer is dropped.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "Client.h"

#define MQTT_CALLBACK_SIGNATURE void (*callback)(char*, uint8_t*, unsigned int)

class PubSubClient {
 public:
  explicit PubSubClient(Client& client) : client_(client) {}
  ~PubSubClient() { free(buffer_); }

  PubSubClient& setServer(const char* domain, uint16_t port) {
    domain_ = domain;
    port_ = port;
    return *this;
  }
  PubSubClient& setCallback(MQTT_CALLBACK_SIGNATURE) {
    callback_ = callback;
    return *this;
  }
  PubSubClient& setKeepAlive(uint16_t seconds) {
    keep_alive_ = seconds;
    return *this;
  }
  PubSubClient& setSocketTimeout(uint16_t seconds) {
    timeout_ = seconds;
    return *this;
  }
  boolean setBufferSize(uint16_t size) {
    buffer_ = static_cast<uint8_t*>(realloc(buffer_, size));
    capacity_ = size;
    return buffer_ != nullptr;
  }

  boolean connect(const char* id, const char* user, const char* pass, const char* willTopic, uint8_t willQos, boolean willRetain,
                  const char* willMessage) {
    if (client_.connect(domain_, port_) != 1) return false;
    begin(0x10);
    text("MQTT");
    byte(4);
    byte(static_cast<uint8_t>(0x06 | willQos << 3 | willRetain << 5 | (user != nullptr ? 0x80 : 0) | (pass != nullptr ? 0x40 : 0)));
    byte(static_cast<uint8_t>(keep_alive_ >> 8));
    byte(static_cast<uint8_t>(keep_alive_));
    text(id);
    text(willTopic);
    text(willMessage);
    if (user != nullptr) text(user);
    if (pass != nullptr) text(pass);
    is_open_ = end() && take() && buffer_[0] == 0x20 && size_ == 2 && buffer_[head_ + 1] == 0;
    if (!is_open_) client_.stop();
    return is_open_;
  }
  boolean subscribe(const char* topic, uint8_t qos) {
    begin(0x82);
    byte(0);
    byte(++number_);
    text(topic);
    byte(qos);
    return end();
  }
  boolean publish(const char* topic, const uint8_t* payload, unsigned int size, boolean retained) {
    if (!connected() || 7 + strlen(topic) + size > capacity_) return false;
    begin(retained ? 0x31 : 0x30);
    text(topic);
    for (unsigned i = 0; i < size; ++i) byte(payload[i]);
    return end();
  }
  boolean connected() { return is_open_ = is_open_ && client_.connected(); }
  boolean loop() {
    if (!connected()) return false;
    if (millis() - said_ > 500ul * keep_alive_) {
      begin(0xC0);
      end();
    }
    if (client_.available() == 0 || !take() || (buffer_[0] & 0xF0) != 0x30 || size_ + head_ > capacity_) return connected();
    const unsigned topic = static_cast<unsigned>(buffer_[head_] << 8 | buffer_[head_ + 1]);
    memmove(buffer_ + head_ + 1, buffer_ + head_ + 2, topic);  // room for a zero behind it
    buffer_[head_ + 1 + topic] = 0;
    callback_(reinterpret_cast<char*>(buffer_ + head_ + 1), buffer_ + head_ + 2 + topic, size_ - 2 - topic);
    return true;
  }

 private:
  void begin(uint8_t header) {
    buffer_[0] = header;
    filled_ = 5;  // behind the longest header
  }
  void byte(uint8_t value) {
    if (filled_ < capacity_) buffer_[filled_] = value;
    ++filled_;
  }
  void text(const char* value) {
    const size_t size = strlen(value);
    byte(static_cast<uint8_t>(size >> 8));
    byte(static_cast<uint8_t>(size));
    for (size_t i = 0; i < size; ++i) byte(static_cast<uint8_t>(value[i]));
  }
  // Sends the packet.
  bool end() {
    if (filled_ > capacity_) return false;
    said_ = millis();
    uint8_t head[5] = {buffer_[0]};
    size_t used = 1;
    for (size_t left = filled_ - 5;;) {
      head[used++] = static_cast<uint8_t>((left & 127) | (left > 127 ? 128 : 0));
      if ((left >>= 7) == 0) break;
    }
    memmove(buffer_ + 5 - used, head, used);
    return client_.write(buffer_ + 5 - used, filled_ - 5 + used) == filled_ - 5 + used;
  }
  bool get(uint8_t& value) {
    for (const unsigned long began = millis(); client_.available() == 0;) {
      if (!client_.connected() || millis() - began > 1000ul * timeout_) return false;
    }
    value = static_cast<uint8_t>(client_.read());
    return true;
  }
  // Takes a packet, of which the buffer keeps as much as it has room for.
  bool take() {
    if (!get(buffer_[0])) return false;
    head_ = 1;
    size_ = 0;
    uint8_t digit = 128;
    for (unsigned shift = 0; (digit & 128) != 0; shift += 7) {
      if (!get(digit)) return false;
      size_ |= static_cast<size_t>(digit & 127) << shift;
      buffer_[head_++] = digit;
    }
    for (size_t i = 0; i < size_; ++i) {
      uint8_t value;
      if (!get(value)) return false;
      if (head_ + i < capacity_) buffer_[head_ + i] = value;
    }
    return true;
  }

  Client& client_;
  const char* domain_ = "";
  uint16_t port_ = 0, keep_alive_ = 15, timeout_ = 15, capacity_ = 0;
  void (*callback_)(char*, uint8_t*, unsigned int) = nullptr;
  uint8_t* buffer_ = nullptr;
  size_t filled_ = 0, head_ = 0, size_ = 0;
  uint8_t number_ = 0;
  unsigned long said_ = 0;
  bool is_open_ = false;
};
