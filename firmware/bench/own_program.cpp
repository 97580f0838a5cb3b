// A program with every function of the device: what these take is this program's memory minus that of app/main.cpp.
#include "device.hpp"
#include "port.hpp"

namespace {

// They are linked, and never called. So the device trains as with app/main.cpp.
struct Functions {
  tmf::Status (*predict)(const float*, float*);
  tmf::Status (*learn_label)(const float*, int);
  tmf::Status (*learn_targets)(const float*, const float*);
  tmf::Status (*adapt)();
  tmf::Status (*save)();
  tmf::Statistics (*statistics)();
  int (*best)(const float*);
  float (*confidence)(const float*);
  void (*leave_round)();
};
const Functions kFunctions = {tmf::predict,    tmf::learn, tmf::learn,      tmf::adapt,      tmf::save,
                              tmf::statistics, tmf::best,  tmf::confidence, tmf::leave_round};

}  // namespace

int main(int argc, char** argv) {
  tmf::port::init(argc, argv);
  tmf::start();
  asm volatile("" : : "r"(&kFunctions) : "memory");
  for (;;)
    if (!tmf::poll()) tmf::wait();
}
