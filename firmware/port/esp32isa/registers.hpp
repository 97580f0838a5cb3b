// The part of QEMU's lx60 board that this port uses: the UART and the address of the unique id.
#pragma once

#include <cstdint>

#include "../bare_metal/ns16550.hpp"

namespace tmf::esp32isa {

using Uart = bare_metal::Ns16550<uint32_t>;
inline Uart& uart() { return *reinterpret_cast<Uart*>(0xFD050020); }  // also in vectors.s
constexpr uint32_t kUartInterrupt = 1u << 0;

// Eight bytes outside the board's RAM, written by the emulator's loader; they stand for a real chip's factory-set number.
constexpr uint32_t kUniqueIdAddress = 0x00D00000;

}  // namespace tmf::esp32isa
