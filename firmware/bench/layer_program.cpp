// Runs the kernels of many layers on a board, one call after the other, between calls of port::ticks(), at which the emulator's
// plugin counts instructions. host/tinymetafed/bench/layer_grid.py is the other side.
#include "layer_calls.hpp"
#include "port.hpp"

int main(int argc, char** argv) {
  using namespace tmf;
  port::init(argc, argv);
  uint8_t byte;
  while (port::read(&byte, 1) == 0) port::wait();
  bench::fill();
  for (const bench::Call call : bench::kCalls) {
    port::ticks();
    call();
    port::ticks();
  }
  const uint8_t done[] = {'d', 'o', 'n', 'e', '\n'};
  port::write(done, sizeof done);
  for (;;) port::wait();
}
