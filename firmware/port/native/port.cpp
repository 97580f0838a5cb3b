// The board contract on a POSIX host: the serial line is a pseudo-terminal or a TCP socket on this machine.
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

namespace tmf::port {
namespace {

constexpr char kUsage[] =
    "usage: firmware [--pty | --listen PORT] [--id HEX16] [--exit-with-stdin]\n"
    "  --pty              open a pseudo-terminal and print `pty PATH` (default)\n"
    "  --listen PORT      serve 127.0.0.1:PORT, one connection at a time, and print `listen PORT`; 0 picks a port\n"
    "  --id HEX16         the device's unique id, 16 hexadecimal digits (default: from the process id)\n"
    "  --exit-with-stdin  end when standard input is closed, so that no process outlives the one that started it\n";

// A read from the operating system takes as long as a training step of a small network, so an empty line is read again only
// after this pause.
constexpr uint32_t kReadPauseTicks = board::kTicksPerSecond / 50000;  // 20 µs

int listener = -1;  // the listening TCP socket; -1 for a pty
int line = -1;      // master side of the pty, or the TCP connection; -1 while no host is connected
bool exit_with_stdin = false;
bool line_was_empty = false;
uint32_t empty_since = 0;
uint8_t own_id[8];

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "firmware: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

[[noreturn]] void refuse(const char* argument) {
  std::fprintf(stderr, "firmware: cannot use argument `%s`\n%s", argument, kUsage);
  std::exit(2);
}

void make_nonblocking(int fd) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) fail("fcntl");
}

void open_pty() {
  line = posix_openpt(O_RDWR | O_NOCTTY);
  if (line < 0 || grantpt(line) < 0 || unlockpt(line) < 0) fail("cannot open a pseudo-terminal");
  const char* path = ptsname(line);
  // We keep the host's side open too: otherwise, after the host has closed it, every read would report a hang-up.
  const int host_side = path == nullptr ? -1 : open(path, O_RDWR | O_NOCTTY);
  termios mode;
  if (host_side < 0 || tcgetattr(host_side, &mode) < 0) fail("cannot open the pseudo-terminal's host side");
  cfmakeraw(&mode);
  if (tcsetattr(host_side, TCSANOW, &mode) < 0) fail("cannot make the pseudo-terminal raw");
  make_nonblocking(line);
  std::printf("pty %s\n", path);
}

void open_listener(uint16_t tcp_port) {
  listener = socket(AF_INET, SOCK_STREAM, 0);
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
  std::printf("listen %u\n", static_cast<unsigned>(ntohs(address.sin_port)));
}

void accept_host() {
  line = accept(listener, nullptr, nullptr);
  if (line < 0) return;
  const int on = 1;
  setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  make_nonblocking(line);
}

// Closes a TCP connection, after which the host may connect again; does nothing for a pseudo-terminal.
void drop_host() {
  if (listener < 0) return;
  close(line);
  line = -1;
}

// Sleeps until the line is ready for `events`, or, while no host is connected, until a host connects.
void sleep_until(short events) {
  pollfd watched[2] = {{line >= 0 ? line : listener, line >= 0 ? events : static_cast<short>(POLLIN), 0},
                       {exit_with_stdin ? STDIN_FILENO : -1, POLLIN, 0}};
  if (poll(watched, 2, -1) < 0 && errno != EINTR) fail("poll");
  if (watched[1].revents != 0) {
    char ignored[64];
    if (::read(STDIN_FILENO, ignored, sizeof ignored) <= 0) std::exit(0);
  }
  if (line < 0 && watched[0].revents != 0) accept_host();
}

void parse_id(const char* text) {
  if (std::strlen(text) != 16 || std::strspn(text, "0123456789abcdefABCDEF") != 16) refuse(text);
  for (size_t i = 0; i < sizeof own_id; ++i) {
    const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
    own_id[i] = static_cast<uint8_t>(std::strtoul(digits, nullptr, 16));
  }
}

uint16_t parse_tcp_port(const char* text) {
  char* end = nullptr;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (end == text || *end != '\0' || value > 65535) refuse(text);
  return static_cast<uint16_t>(value);
}

}  // namespace

void init(int argc, char** argv) {
  const uint32_t process = static_cast<uint32_t>(getpid());
  std::memcpy(own_id, "host", 4);
  std::memcpy(own_id + 4, &process, sizeof process);
  bool use_tcp = false;
  uint16_t tcp_port = 0;
  for (int i = 1; i < argc; ++i) {
    const char* argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (std::strcmp(argument, "--pty") == 0) {
      use_tcp = false;
    } else if (std::strcmp(argument, "--exit-with-stdin") == 0) {
      exit_with_stdin = true;
    } else if (std::strcmp(argument, "--listen") == 0) {
      use_tcp = true;
      tcp_port = parse_tcp_port(value);
      ++i;
    } else if (std::strcmp(argument, "--id") == 0) {
      parse_id(value);
      ++i;
    } else {
      refuse(argument);
    }
  }
  std::signal(SIGPIPE, SIG_IGN);
  if (use_tcp) {
    open_listener(tcp_port);
  } else {
    open_pty();
  }
  std::fflush(stdout);
}

size_t read(uint8_t* to, size_t capacity) {
  if (line_was_empty && ticks() - empty_since < kReadPauseTicks) return 0;
  if (line < 0) accept_host();
  const ssize_t got = line < 0 ? -1 : ::read(line, to, capacity);
  line_was_empty = got <= 0;
  if (got > 0) return static_cast<size_t>(got);
  empty_since = ticks();
  if (got == 0 || (line >= 0 && errno != EAGAIN && errno != EINTR)) drop_host();
  return 0;
}

void write(const uint8_t* from, size_t size) {
  while (size > 0 && line >= 0) {
    const ssize_t sent = ::write(line, from, size);
    if (sent >= 0) {
      from += sent;
      size -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      sleep_until(POLLOUT);
    } else if (errno != EINTR) {
      drop_host();
      return;
    }
  }
}

void wait() {
  line_was_empty = false;
  sleep_until(POLLIN);
}

uint32_t ticks() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  constexpr long kNanosecondsPerTick = 1'000'000'000 / board::kTicksPerSecond;
  return static_cast<uint32_t>(now.tv_sec) * board::kTicksPerSecond + static_cast<uint32_t>(now.tv_nsec / kNanosecondsPerTick);
}

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, own_id, sizeof own_id); }

}  // namespace tmf::port
