// The firmware where the start-up code is ours, or the operating system's.
#include "turn.hpp"

namespace {

// Static, so that the linker counts every byte of it.
tmf::Dispatcher dispatcher;

}  // namespace

int main(int argc, char** argv) {
  tmf::port::init(argc, argv);
  for (;;) tmf::turn(dispatcher);
}
