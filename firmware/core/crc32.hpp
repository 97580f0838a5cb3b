// CRC-32 as in zlib, Ethernet and PNG: reflected polynomial 0xEDB88320.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tmf {

// CRC of `size` bytes. `so_far` is the CRC of the bytes before these, if the data come in several parts.
uint32_t crc32(const uint8_t* data, size_t size, uint32_t so_far = 0);

// The CRC of any bytes with their little-endian CRC behind them.
constexpr uint32_t kCrc32Residue = 0x2144DF1C;

}  // namespace tmf
