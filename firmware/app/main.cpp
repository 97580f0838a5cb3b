// The main program on a host and on bare metal.
#include "device.hpp"
#include "port.hpp"

int main(int argc, char** argv) {
  tmf::port::init(argc, argv);
  tmf::start();
  for (;;)
    if (!tmf::poll()) tmf::wait();
}
