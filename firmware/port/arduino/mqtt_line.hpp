// A line through an MQTT broker, with the library PubSubClient: docs/network-boards.md says what is at which topic.
#pragma once

#include <cstring>

#include "network_line.hpp"
#include "pub_sub_client.hpp"

namespace tmf {

// The sketch joins the network, and gives the client its network connection and its broker. A lost broker is tried again after
// pauses that grow; a try takes up to kAnswerSeconds, during which the board does nothing else.
class MqttLine : public NetworkLine {
 public:
  enum : unsigned { kTopicBytes = 64 };  // of the board's topic, as the host allows
  enum : unsigned { kLongestEnding = 6 };
  // PubSubClient keeps a packet whole: its header, the topic and the payload. Its own default, 256, would be too few.
  enum : unsigned { kPacketBytes = 5 + 2 + kTopicBytes + kLongestEnding + kMessageBytes };
  enum : unsigned { kKeepAliveSeconds = 30, kAnswerSeconds = 5 };
  enum : unsigned long { kFirstPause = 1000, kLongestPause = 60000 };  // milliseconds

  // The texts must stay where they are. `user` and `password` may be null.
  MqttLine(PubSubClient& client, const char* topic, const char* user = nullptr, const char* password = nullptr)
      : client_(client), topic_(topic), user_(user), password_(password) {}

  // Takes the memory for packets. `id` tells the board from all others at the broker: of two with one id, the broker drops the
  // one that came first. False if the topic is too long, or there is no memory.
  bool begin(const char* id) {
    id_ = id;
    active() = this;
    client_.setCallback(receive);
    client_.setKeepAlive(kKeepAliveSeconds);
    client_.setSocketTimeout(kAnswerSeconds);
    return std::strlen(topic_) <= kTopicBytes && client_.setBufferSize(kPacketBytes);
  }

  // One message is taken at a time: the next ones wait in the network connection.
  int available() override {
    if (at_ == size_) {
      at_ = size_ = 0;
      if (client_.connected() || connects()) client_.loop();
    }
    return static_cast<int>(size_ - at_);
  }

  int read() override { return at_ < size_ ? message_[at_++] : -1; }

 private:
  // Joins the broker, which tells others `off` once the connection is lost, and `on` with the bytes that a message may have.
  bool connects() {
    const unsigned long now = millis();
    if (pause_ != 0 && now - tried_ < wait_) return false;
    static const char on[] = "on 1024";
    static_assert(kMessageBytes == 1024, "the announcement says how many");
    char state[kTopicBytes + kLongestEnding + 1], down[sizeof state];
    const bool done = client_.connect(id_, user_, password_, topic_of(state, "/state"), 0, true, "off 0") &&
                      client_.subscribe(topic_of(down, "/down"), 0) &&
                      client_.publish(state, reinterpret_cast<const uint8_t*>(on), sizeof on - 1, true);
    pause_ = done || pause_ == 0 ? kFirstPause : pause_ < kLongestPause / 2 ? 2 * pause_ : kLongestPause;
    wait_ = pause_ / 2 + micros() % pause_;  // boards that have lost the same broker do not all come back at once
    tried_ = millis();
    return done;
  }

  void send(const uint8_t* from, size_t size) override {
    char up[kTopicBytes + kLongestEnding + 1];
    client_.publish(topic_of(up, "/up"), from, static_cast<unsigned>(size), false);
  }

  template <size_t N>
  const char* topic_of(char (&to)[N], const char* ending) const {
    const size_t size = std::strlen(topic_);
    std::memcpy(to, topic_, size);
    std::memcpy(to + size, ending, std::strlen(ending) + 1);
    return to;
  }

  static void receive(char*, uint8_t* payload, unsigned int size) {
    MqttLine& line = *active();
    if (line.at_ != line.size_ || size > sizeof line.message_) return;
    std::memcpy(line.message_, payload, size);
    line.at_ = 0;
    line.size_ = size;
  }

  // PubSubClient's callback has no room for an object.
  static MqttLine*& active() {
    static MqttLine* line = nullptr;
    return line;
  }

  PubSubClient& client_;
  const char* topic_;
  const char* user_;
  const char* password_;
  const char* id_ = "";
  unsigned long tried_ = 0, pause_ = 0, wait_ = 0;  // milliseconds; no pause before the first try
  uint8_t message_[kMessageBytes];
  size_t at_ = 0, size_ = 0;
};

}  // namespace tmf
