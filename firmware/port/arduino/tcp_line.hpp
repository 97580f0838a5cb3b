// A line over TCP: the board listens, and serves one host at a time. For any network with Arduino's usual server and client.
#pragma once

#include "network_line.hpp"

namespace tmf {

// `Connection` is what `server.available()` returns, for instance WiFiClient of WiFiServer. The sketch begins the server, and joins
// the network.
template <typename Server, typename Connection>
class TcpLine : public NetworkLine {
 public:
  explicit TcpLine(Server& server) : server_(server) {}

  // A host that connects replaces the one before it: a host that has vanished from a network does not say so.
  int available() override {
    Connection next = server_.available();
    if (next) {
      host_.stop();
      host_ = next;
    }
    return host_.connected() ? host_.available() : 0;
  }

  int read() override { return host_.read(); }

 private:
  void send(const uint8_t* from, size_t size) override {
    if (host_.connected()) host_.write(from, size);
  }

  Server& server_;
  Connection host_;
};

}  // namespace tmf
