// host.hpp for Windows: TCP ports by Winsock; there are no pseudo-terminals.
#ifdef _WIN32

#include "host.hpp"
#include "port.hpp"

#include <winsock2.h>
// After winsock2.h, which has to be first.
#include <windows.h>

#include <cstdio>
#include <cstdlib>

namespace tmf::port::host {
namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "firmware: %s: error %d of Winsock\n", what, WSAGetLastError());
  std::exit(1);
}

SOCKET socket_of(Line line) { return static_cast<SOCKET>(line); }

void make_nonblocking(SOCKET socket) {
  u_long on = 1;
  if (ioctlsocket(socket, FIONBIO, &on) != 0) fail("ioctlsocket");
}

// Whether a read or write without result has only to be tried again later.
bool later() { return WSAGetLastError() == WSAEWOULDBLOCK; }

// Reads standard input, a pipe, to its end: a pipe cannot be waited for together with a socket.
DWORD WINAPI end_with_stdin(void*) {
  char ignored[64];
  DWORD got = 0;
  while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), ignored, sizeof ignored, &got, nullptr) && got > 0) {
  }
  ExitProcess(0);
}

}  // namespace

Line open_pty(const char*&) {
  std::fprintf(stderr, "firmware: Windows has no pseudo-terminals; use --listen PORT\n");
  std::exit(2);
}

Line listen_on_loopback(uint16_t& tcp_port) {
  WSADATA facts;
  if (WSAStartup(MAKEWORD(2, 2), &facts) != 0) fail("WSAStartup");
  const SOCKET listener = socket(AF_INET, SOCK_STREAM, 0);
  if (listener == INVALID_SOCKET) fail("socket");
  const BOOL on = TRUE;  // on Windows, SO_REUSEADDR would let another program take the port
  setsockopt(listener, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, reinterpret_cast<const char*>(&on), sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(tcp_port);
  int size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, any, size) != 0 || listen(listener, 1) != 0 || getsockname(listener, any, &size) != 0) {
    fail("cannot listen on 127.0.0.1");
  }
  make_nonblocking(listener);
  tcp_port = ntohs(address.sin_port);
  return static_cast<Line>(listener);
}

Line accept(Line listener) {
  const SOCKET line = ::accept(socket_of(listener), nullptr, nullptr);
  if (line == INVALID_SOCKET) return kNoLine;
  const BOOL on = TRUE;
  setsockopt(line, IPPROTO_TCP, TCP_NODELAY, reinterpret_cast<const char*>(&on), sizeof on);
  make_nonblocking(line);
  return static_cast<Line>(line);
}

void close(Line line) { closesocket(socket_of(line)); }

bool read(Line line, uint8_t* to, size_t capacity, size_t& count) {
  const int got = recv(socket_of(line), reinterpret_cast<char*>(to), static_cast<int>(capacity), 0);
  count = got > 0 ? static_cast<size_t>(got) : 0;
  return got > 0 || (got < 0 && later());
}

bool write(Line line, const uint8_t* from, size_t size, size_t& count) {
  const int sent = send(socket_of(line), reinterpret_cast<const char*>(from), static_cast<int>(size), 0);
  count = sent > 0 ? static_cast<size_t>(sent) : 0;
  return sent >= 0 || later();
}

bool sleep_until(Line line, Wanted wanted) {
  WSAPOLLFD watched = {socket_of(line), static_cast<SHORT>(wanted == Wanted::kInput ? POLLRDNORM : POLLWRNORM), 0};
  if (WSAPoll(&watched, 1, -1) < 0) fail("WSAPoll");
  return watched.revents != 0;
}

void exit_with_stdin() {
  if (CreateThread(nullptr, 0, end_with_stdin, nullptr, 0, nullptr) == nullptr) fail("CreateThread");
}

// Seconds and their rest apart: the counter times kTicksPerSecond would soon exceed 64 bits.
uint32_t ticks() {
  LARGE_INTEGER count, frequency;
  QueryPerformanceCounter(&count);
  QueryPerformanceFrequency(&frequency);
  const uint64_t whole = static_cast<uint64_t>(count.QuadPart / frequency.QuadPart);
  const uint64_t rest = static_cast<uint64_t>(count.QuadPart % frequency.QuadPart);
  const uint64_t part = rest * board::kTicksPerSecond / static_cast<uint64_t>(frequency.QuadPart);
  return static_cast<uint32_t>(whole * board::kTicksPerSecond + part);
}

uint32_t process_id() { return GetCurrentProcessId(); }

}  // namespace tmf::port::host

#endif
