// The firmware: listen, answer, train between messages, sleep when there is nothing to do.
#include "dispatch.hpp"
#include "port.hpp"

namespace {

// Static, so that the linker counts every byte of it.
tmf::Dispatcher dispatcher;

}  // namespace

int main(int argc, char** argv) {
  tmf::port::init(argc, argv);
  uint8_t bytes[64];
  for (;;) {
    const size_t received = tmf::port::read(bytes, sizeof bytes);
    dispatcher.receive(bytes, received);
    if (!dispatcher.work() && received == 0) tmf::port::wait();
  }
}
