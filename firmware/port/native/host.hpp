// What a native device needs of the operating system: lines, a clock, and an end with the process that started it.
//
// posix.cpp implements it for Linux and macOS, windows.cpp for Windows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf::port::host {

using Line = intptr_t;  // a file descriptor, or a socket of Windows
constexpr Line kNoLine = -1;

enum class Wanted { kInput, kRoom };

// Both end the program, with the reason on standard error, if the operating system refuses. The path lives as long as the line.
Line open_pty(const char*& path);
Line listen_on_loopback(uint16_t& tcp_port);  // 0 becomes the port that the system has chosen

Line accept(Line listener);  // kNoLine if nobody waits to be connected
void close(Line line);

// `count` bytes have been read or written, 0 when none wait or there is no room. False: the other side has gone.
[[nodiscard]] bool read(Line line, uint8_t* to, size_t capacity, size_t& count);
[[nodiscard]] bool write(Line line, const uint8_t* from, size_t size, size_t& count);

// Returns whether the line is ready; false after an interruption.
bool sleep_until(Line line, Wanted wanted);

// From now on the program ends when its standard input is closed, at the latest in the next sleep_until().
void exit_with_stdin();

uint32_t ticks();
uint32_t process_id();

}  // namespace tmf::port::host
