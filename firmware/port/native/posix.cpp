// host.hpp for Linux and macOS.
#ifndef _WIN32

#include "host.hpp"
#include "port.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace tmf::port::host {
namespace {

bool ends_with_stdin = false;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "firmware: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

void make_nonblocking(int fd) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) fail("fcntl");
}

// Whether a read or write without result has only to be tried again later.
bool later() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

Line open_pty(const char*& path) {
  const int line = posix_openpt(O_RDWR | O_NOCTTY);
  if (line < 0 || grantpt(line) < 0 || unlockpt(line) < 0) fail("cannot open a pseudo-terminal");
  path = ptsname(line);
  // We keep the host's side open too: otherwise, after the host has closed it, every read would report a hang-up.
  const int host_side = path == nullptr ? -1 : open(path, O_RDWR | O_NOCTTY);
  termios mode;
  if (host_side < 0 || tcgetattr(host_side, &mode) < 0) fail("cannot open the pseudo-terminal's host side");
  cfmakeraw(&mode);
  if (tcsetattr(host_side, TCSANOW, &mode) < 0) fail("cannot make the pseudo-terminal raw");
  make_nonblocking(line);
  return line;
}

Line listen_on_loopback(uint16_t& tcp_port) {
  std::signal(SIGPIPE, SIG_IGN);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0) fail("socket");
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(tcp_port);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, any, size) < 0 || listen(listener, 1) < 0 || getsockname(listener, any, &size) < 0) {
    fail("cannot listen on 127.0.0.1");
  }
  make_nonblocking(listener);
  tcp_port = ntohs(address.sin_port);
  return listener;
}

Line accept(Line listener) {
  const int line = ::accept(static_cast<int>(listener), nullptr, nullptr);
  if (line < 0) return kNoLine;
  const int on = 1;
  setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  make_nonblocking(line);
  return line;
}

void close(Line line) { ::close(static_cast<int>(line)); }

bool read(Line line, uint8_t* to, size_t capacity, size_t& count) {
  const ssize_t got = ::read(static_cast<int>(line), to, capacity);
  count = got > 0 ? static_cast<size_t>(got) : 0;
  return got > 0 || (got < 0 && later());
}

bool write(Line line, const uint8_t* from, size_t size, size_t& count) {
  const ssize_t sent = ::write(static_cast<int>(line), from, size);
  count = sent > 0 ? static_cast<size_t>(sent) : 0;
  return sent >= 0 || later();
}

bool sleep_until(Line line, Wanted wanted) {
  pollfd watched[2] = {{static_cast<int>(line), static_cast<short>(wanted == Wanted::kInput ? POLLIN : POLLOUT), 0},
                       {ends_with_stdin ? STDIN_FILENO : -1, POLLIN, 0}};
  if (poll(watched, 2, -1) < 0) {
    if (errno != EINTR) fail("poll");
    return false;
  }
  if (watched[1].revents != 0) {
    char ignored[64];
    if (::read(STDIN_FILENO, ignored, sizeof ignored) <= 0) std::exit(0);
  }
  return watched[0].revents != 0;
}

void exit_with_stdin() { ends_with_stdin = true; }

uint32_t ticks() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  constexpr long kNanosecondsPerTick = 1'000'000'000 / board::kTicksPerSecond;
  return static_cast<uint32_t>(now.tv_sec) * board::kTicksPerSecond + static_cast<uint32_t>(now.tv_nsec / kNanosecondsPerTick);
}

uint32_t process_id() { return static_cast<uint32_t>(getpid()); }

}  // namespace tmf::port::host

#endif
