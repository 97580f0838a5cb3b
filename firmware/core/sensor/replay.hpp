// The replay functions of a port, for firmware whose sensor is a recording: a file of prepared rows on the machine that runs the
// board. A port of a board that runs as a process and whose JSON has "replays" implements them, in replay.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf::port::replay {

// Opens the recording. False: there is none.
bool open();

// Reads up to `size` bytes from byte `at` on and returns their number, which is less only at the end of the file.
size_t read(uint32_t at, void* to, size_t size);

}  // namespace tmf::port::replay
