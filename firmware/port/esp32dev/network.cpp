// An ESP32 kit on Wi-Fi: serves a TCP port, or connects to an MQTT broker, as the user's header says (docs/network-boards.md).
#if __has_include(<network_facts.hpp>)  // generated where TINYMETAFED_NETWORK names that header
#include <network_facts.hpp>

#include "network.hpp"

#include "port.hpp"

#include "wifi.hpp"

#ifdef TMF_MQTT_TOPIC
#include "../arduino/mqtt_line.hpp"
#else
#include "../arduino/tcp_line.hpp"
#endif

namespace tmf::port {
namespace {

static_assert(NetworkLine::kMessageBytes >= board::kReceiveWindow, "a frame has to fit a message");

#ifdef TMF_MQTT_TOPIC

#ifdef TMF_MQTT_CA
WiFiClientSecure connection;
// arduino-esp32 2.0 looks a name up for up to 15 s, connects for up to 30 s, and by default waits 120 s for TLS's handshake. A
// broker that accepts and says nothing must not stop the board for longer than its watchdog waits.
constexpr unsigned kLookUpSeconds = 15, kConnectSeconds = 30, kHandshakeSeconds = 8;
static_assert(kLookUpSeconds + kConnectSeconds + kHandshakeSeconds + MqttLine::kAnswerSeconds < board::kWatchdogSeconds,
              "a try to reach the broker must end before the watchdog resets the board");
#ifndef TMF_MQTT_PORT
#define TMF_MQTT_PORT 8883
#endif
#else
WiFiClient connection;
#ifndef TMF_MQTT_PORT
#define TMF_MQTT_PORT 1883
#endif
#endif
#ifndef TMF_MQTT_USER
#define TMF_MQTT_USER nullptr
#define TMF_MQTT_PASSWORD nullptr
#endif

static_assert(sizeof TMF_MQTT_TOPIC - 1 <= MqttLine::kTopicBytes, "TMF_MQTT_TOPIC is too long");

PubSubClient client(connection);
MqttLine line(client, TMF_MQTT_TOPIC, TMF_MQTT_USER, TMF_MQTT_PASSWORD);
char name[] = "tinymetafed-0000000000000000";  // the client's id, which ends with the board's

void open_line() {
  uint8_t id[8];
  unique_id(id);
  char* to = name + sizeof name - 1 - 2 * sizeof id;
  for (const uint8_t byte : id) {
    *to++ = "0123456789abcdef"[byte >> 4];
    *to++ = "0123456789abcdef"[byte & 15];
  }
#ifdef TMF_MQTT_CA
  connection.setCACert(TMF_MQTT_CA);
  connection.setHandshakeTimeout(kHandshakeSeconds);
#endif
  client.setServer(TMF_MQTT_HOST, TMF_MQTT_PORT);
  if (!line.begin(name)) return;  // no memory: the board stays silent on the network
  use(line);
}

#else

WiFiServer server(TMF_TCP_PORT);
TcpLine<WiFiServer, WiFiClient> line(server);

void open_line() {
  server.begin();
  server.setNoDelay(true);  // answers are sent whole, so none waits for an acknowledgement
  use(line);
}

#endif

}  // namespace

// Joining goes on beside the program, and again whenever the network is lost. The radio stays awake, as a sleeping one adds up
// to 0.3 s to each answer.
void join_network() {
  WiFi.mode(WIFI_STA);
  WiFi.setSleep(false);
  WiFi.setAutoReconnect(true);
  WiFi.begin(TMF_WIFI_NAME, TMF_WIFI_PASSWORD);
  open_line();
}

}  // namespace tmf::port

#endif
