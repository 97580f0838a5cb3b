// The main program on a host and on bare metal.
#include "turn.hpp"

namespace {

// Static, so that the linker counts its memory.
tmf::Dispatcher dispatcher;

}  // namespace

int main(int argc, char** argv) {
  tmf::port::init(argc, argv);
  dispatcher.begin();
  for (;;) tmf::turn(dispatcher);
}
