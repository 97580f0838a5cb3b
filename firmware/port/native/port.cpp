// The board contract on a PC: the serial line is a pseudo-terminal or a TCP port of this machine. host.hpp has what depends on the
// operating system.
#include "port.hpp"

#include "host.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tmf::port {
namespace {

constexpr char kUsage[] =
    "usage: firmware [--pty | --listen PORT] [--id HEX16] [--exit-with-stdin]\n"
    "  --pty              open a pseudo-terminal and print `pty PATH` (default; not on Windows)\n"
    "  --listen PORT      serve 127.0.0.1:PORT, one connection at a time, and print `listen PORT`; 0 picks a port\n"
    "  --id HEX16         the device's unique id, 16 hexadecimal digits (default: from the process id)\n"
    "  --exit-with-stdin  end when standard input is closed, so that no process outlives the one that started it\n";

// A read from the operating system takes as long as a training step of a small network, so an empty line is read again only
// after this pause.
constexpr uint32_t kReadPauseTicks = board::kTicksPerSecond / 50000;  // 20 µs

host::Line listener = host::kNoLine;  // the listening TCP socket; none for a pty
host::Line line = host::kNoLine;      // the device's side of the pty, or the TCP connection; none while no host is connected
bool line_was_empty = false;
uint32_t empty_since = 0;
uint8_t own_id[8];

[[noreturn]] void refuse(const char* argument) {
  std::fprintf(stderr, "firmware: cannot use argument `%s`\n%s", argument, kUsage);
  std::exit(2);
}

// Closes a TCP connection, after which the host may connect again; does nothing for a pseudo-terminal.
void drop_host() {
  if (listener == host::kNoLine) return;
  host::close(line);
  line = host::kNoLine;
}

// Sleeps until the line is ready, or, while no host is connected, until a host connects.
void sleep_until(host::Wanted wanted) {
  const bool connected = line != host::kNoLine;
  const bool ready = host::sleep_until(connected ? line : listener, connected ? wanted : host::Wanted::kInput);
  if (!connected && ready) line = host::accept(listener);
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
  const uint32_t process = host::process_id();
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
      host::exit_with_stdin();
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
  if (use_tcp) {
    listener = host::listen_on_loopback(tcp_port);
    std::printf("listen %u\n", static_cast<unsigned>(tcp_port));
  } else {
    const char* path = nullptr;
    line = host::open_pty(path);
    std::printf("pty %s\n", path);
  }
  std::fflush(stdout);
}

size_t read(uint8_t* to, size_t capacity) {
  if (line_was_empty && ticks() - empty_since < kReadPauseTicks) return 0;
  if (line == host::kNoLine) line = host::accept(listener);
  size_t got = 0;
  const bool connected = line != host::kNoLine;
  const bool lost = connected && !host::read(line, to, capacity, got);
  line_was_empty = got == 0;
  if (line_was_empty) empty_since = ticks();
  if (lost) drop_host();
  return got;
}

void write(const uint8_t* from, size_t size) {
  while (size > 0 && line != host::kNoLine) {
    size_t sent = 0;
    if (!host::write(line, from, size, sent)) {
      drop_host();
      return;
    }
    from += sent;
    size -= sent;
    if (sent == 0) sleep_until(host::Wanted::kRoom);
  }
}

void wait() {
  line_was_empty = false;
  sleep_until(host::Wanted::kInput);
}

uint32_t ticks() { return host::ticks(); }

void unique_id(uint8_t (&id)[8]) { std::memcpy(id, own_id, sizeof own_id); }

}  // namespace tmf::port
