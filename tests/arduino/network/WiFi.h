// Stand-in for the WiFi.h of arduino-esp32 2.0, over sockets of this machine: the declarations that our port uses, as in the original.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "Client.h"

typedef enum { WIFI_STA = 1 } wifi_mode_t;

class WiFiClass {
 public:
  bool mode(wifi_mode_t mode) { return joins_ = mode == WIFI_STA; }
  bool setSleep(bool) { return true; }
  bool setAutoReconnect(bool) { return true; }
  int begin(const char* ssid, const char* passphrase) {
    signal(SIGPIPE, SIG_IGN);
    if (!joins_ || strcmp(ssid, "lab") != 0 || strcmp(passphrase, "of the lab") != 0) abort();
    return 0;
  }

 private:
  bool joins_ = false;
};

inline WiFiClass WiFi;

class WiFiClient : public Client {
 public:
  WiFiClient() {}
  explicit WiFiClient(int connection) : connection_(new int(connection), [](int* kept) {
    close(*kept);
    delete kept;
  }) {}
  int connect(IPAddress, uint16_t) override { return 0; }
  int connect(const char* host, uint16_t port) override {
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    addrinfo wanted{}, *found = nullptr;
    wanted.ai_family = AF_INET;
    wanted.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host, service, &wanted, &found) != 0) return 0;
    const int made = socket(AF_INET, SOCK_STREAM, 0);
    const int done = ::connect(made, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    const int on = 1;
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    WiFiClient opened(made);
    if (done != 0) return 0;
    connection_ = opened.connection_;
    return 1;
  }
  size_t write(uint8_t byte) override { return write(&byte, 1); }
  size_t write(const uint8_t* from, size_t size) override {
    const ssize_t sent = connection_ == nullptr ? -1 : send(*connection_, from, size, 0);
    if (sent < 0) stop();
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  int available() override {
    int count = 0;
    if (connection_ != nullptr) ioctl(*connection_, FIONREAD, &count);
    return count;
  }
  int read() override {
    uint8_t byte;
    return read(&byte, 1) == 1 ? byte : -1;
  }
  int read(uint8_t* to, size_t size) override {
    return connection_ == nullptr ? -1 : static_cast<int>(recv(*connection_, to, size, MSG_DONTWAIT));
  }
  int peek() override { return -1; }
  void flush() override {}
  void stop() override { connection_ = nullptr; }
  uint8_t connected() override {
    if (connection_ == nullptr) return 0;
    char byte;
    const ssize_t there = recv(*connection_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (there == 0 || (there < 0 && errno != EAGAIN)) stop();
    return connection_ != nullptr;
  }
  operator bool() override { return connected() != 0; }

 private:
  std::shared_ptr<int> connection_;
};

class WiFiServer {
 public:
  explicit WiFiServer(uint16_t port) : port_(port) {}
  void begin() {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener_, 4) != 0) abort();
  }
  void setNoDelay(bool nodelay) { no_delay_ = nodelay; }
  WiFiClient available() {
    const int made = accept(listener_, nullptr, nullptr);
    if (made < 0) return WiFiClient();
    const int on = no_delay_;
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return WiFiClient(made);
  }

 private:
  uint16_t port_;
  int listener_ = -1;
  bool no_delay_ = false;
};
