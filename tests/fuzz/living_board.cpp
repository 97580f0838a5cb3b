// A board as a shared library: a test brings the bytes of its line and calls the functions of its program. To load the library
// again is to reset the board; its flash is the file of port/native/storage.cpp.
#include <cstring>
#include <string>

#include "device.hpp"
#include "port.hpp"

namespace {

std::string down, up;  // the line
uint32_t now = 0;

}  // namespace

namespace tmf::port {

void init(int, char**) {}
size_t read(uint8_t* to, size_t capacity) {
  const size_t size = down.copy(reinterpret_cast<char*>(to), capacity);
  down.erase(0, size);
  return size;
}
void write(const uint8_t* from, size_t size) { up.append(reinterpret_cast<const char*>(from), size); }
void wait() {}
uint32_t ticks() { return now += 7; }
void unique_id(uint8_t (&id)[8]) { std::memcpy(id, "living..", 8); }

}  // namespace tmf::port

extern "C" {
void board_start() { tmf::start(); }
void board_receive(const char* bytes, size_t size) { down.append(bytes, size); }
bool board_poll() { return tmf::poll(); }
size_t board_sent(char* to) {
  const size_t size = up.copy(to, up.size());
  up.clear();
  return size;
}
int board_predict(const float* features, float* scores) { return static_cast<int>(tmf::predict(features, scores)); }
int board_learn(const float* features, int label) { return static_cast<int>(tmf::learn(features, label)); }
int board_adapt() { return static_cast<int>(tmf::adapt()); }
int board_save() { return static_cast<int>(tmf::save()); }
uint32_t board_learned() { return tmf::statistics().learned; }
}
