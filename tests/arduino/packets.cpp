// Writes the packets that the Arduino port makes of pieces: both are read and written as a length of two bytes, then the bytes.
#include <stdint.h>
#include <stdio.h>

#include "packets.hpp"

int main() {
  tmf::port::Packets packets;
  uint8_t piece[2048], length[2];
  while (fread(length, 1, 2, stdin) == 2) {
    const size_t size = static_cast<size_t>(length[0] | length[1] << 8);
    if (size > sizeof piece || fread(piece, 1, size, stdin) != size) return 1;
    packets.write(piece, size, [](const uint8_t* packet, size_t bytes) {
      const uint8_t head[2] = {static_cast<uint8_t>(bytes), static_cast<uint8_t>(bytes >> 8)};
      fwrite(head, 1, 2, stdout);
      return fwrite(packet, 1, bytes, stdout);
    });
  }
  return 0;
}
