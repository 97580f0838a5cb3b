// The whole firmware core as a shared library: bytes in, bytes out, and one training step per call of device_work().
#include <cstring>
#include <new>
#include <vector>

#include "dispatch.hpp"
#include "port.hpp"

namespace {

struct Device {
  tmf::Dispatcher dispatcher;
  std::vector<uint8_t> sent;
};

Device* current = nullptr;  // the device that runs, for port::write
uint32_t now = 0;

}  // namespace

namespace tmf::port {
void init(int, char**) {}
size_t read(uint8_t*, size_t) { return 0; }
void write(const uint8_t* from, size_t size) { current->sent.insert(current->sent.end(), from, from + size); }
void wait() {}
uint32_t ticks() { return now += 7; }
void unique_id(uint8_t (&id)[8]) { std::memcpy(id, "in-proc.", 8); }
}  // namespace tmf::port

extern "C" {
Device* device_new() { return new Device(); }
void device_delete(Device* device) { delete device; }

void device_receive(Device* device, const uint8_t* bytes, size_t size) {
  current = device;
  for (size_t used = 0; used < size;) {
    while (device->dispatcher.learner().in_step()) device->dispatcher.work();  // a board reads no message during a step
    used += device->dispatcher.receive(bytes + used, size - used);
  }
}

// Trains at most one step, then answers a pending Await if its step is reached. Returns whether it has trained.
bool device_work(Device* device) {
  current = device;
  return device->dispatcher.work();
}

// The number of bytes sent since the last device_take, and the bytes themselves.
size_t device_sent(Device* device) { return device->sent.size(); }
void device_take(Device* device, uint8_t* to) {
  std::memcpy(to, device->sent.data(), device->sent.size());
  device->sent.clear();
}
}
