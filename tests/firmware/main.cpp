// Runs a unit test for every byte received and sends a line with its result; test_custom_runner.py is the other side.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "check.hpp"
#include "port.hpp"

namespace {

void say(const char* text) { tmf::port::write(reinterpret_cast<const uint8_t*>(text), std::strlen(text)); }

void say(int number) {
  char digits[12] = {};
  size_t at = sizeof digits - 1;
  do digits[--at] = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  say(digits + at);
}

void say_place(const char* file, int line) {
  say(file);
  say(":");
  say(line);
}

// Each test waits until the host has read the previous line, which a fault in the test could otherwise lose.
void await_host() {
  uint8_t byte;
  while (tmf::port::read(&byte, 1) == 0) tmf::port::wait();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tmf;
  port::init(argc, argv);
  int count = 0;
  for (const unit::Test* test = unit::first_test; test != nullptr; test = test->next, ++count) {
    await_host();
    unit::Failure failure{};
    test->body(failure);
    say(failure.condition == nullptr ? "PASSED\t" : "FAILED\t");
    say_place(test->file, test->line);
    say("\t");
    say(test->title);
    if (failure.condition != nullptr) {
      say("\t");
      say_place(failure.file, failure.line);
      say(": ");
      say(failure.condition);
    }
    say("\n");
  }
  say("END\t");
  say(count);
  say("\n");
  for (;;) await_host();
}
