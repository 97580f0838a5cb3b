// Tests frames: encoded and decoded again, and with damaged bytes on the line.
#include "frame.hpp"

#include <cstring>

#include "check.hpp"

namespace tmf {
namespace {

constexpr size_t kBody = 600;  // several COBS blocks
constexpr size_t kLine = kBody + kBody / 200 + 16;

struct Line {
  uint8_t bytes[kLine];
  size_t size;

  void put(const uint8_t* from, size_t count) {
    std::memcpy(bytes + size, from, count);
    size += count;
  }
};

uint8_t body[kBody];
uint8_t received[kBody];
Line line;

// Fills `body` with `size` bytes, every `period`-th of them 0, and sends it to `line` as a frame.
void send(size_t size, size_t period) {
  for (size_t i = 0; i < size; ++i) body[i] = (i + 1) % period == 0 ? 0 : static_cast<uint8_t>(i % 255 + 1);
  line.size = 0;
  send_frame(body, size, [](const uint8_t* from, size_t count) { line.put(from, count); });
}

// Decodes the line's bytes and returns the number of frames.
int receive(FrameDecoder& decoder, uint8_t* buffer = received, size_t capacity = sizeof received) {
  int frames = 0;
  for (size_t i = 0; i < line.size; ++i) frames += decoder.push(line.bytes[i], buffer, capacity) ? 1 : 0;
  return frames;
}

}  // namespace

TEST("a frame is decoded as it was sent, whatever its size and zeros") {
  constexpr size_t kSizes[] = {2, 3, 100, 249, 250, 251, 252, 253, 254, 255, 500, 590};
  constexpr size_t kPeriods[] = {1, 2, 7, 254, 255, 1000};
  for (size_t size : kSizes) {
    for (size_t period : kPeriods) {
      send(size, period);
      FrameDecoder decoder;
      CHECK(receive(decoder) == 1);
      CHECK(decoder.size() == size && std::memcmp(received, body, size) == 0);
      CHECK(decoder.damaged() == 0);
    }
  }
}

TEST("only the frame's last byte is zero") {
  send(300, 3);
  for (size_t i = 0; i < line.size; ++i) CHECK((line.bytes[i] == 0) == (i == line.size - 1));
}

TEST("after garbage and a delimiter the next frame arrives") {
  FrameDecoder decoder;
  uint32_t noise = 1;
  for (int i = 0; i < 2000; ++i) {
    noise = noise * 1664525 + 1013904223;
    CHECK(!decoder.push(static_cast<uint8_t>(noise >> 24), received, sizeof received));
  }
  CHECK(!decoder.push(0, received, sizeof received));
  const uint32_t damaged = decoder.damaged();
  CHECK(damaged > 0);
  send(40, 5);
  CHECK(receive(decoder) == 1);
  CHECK(decoder.size() == 40 && decoder.damaged() == damaged);
}

TEST("one flipped bit anywhere drops the frame") {
  send(30, 4);
  for (size_t bit = 0; bit < 8 * (line.size - 1); ++bit) {
    FrameDecoder decoder;
    line.bytes[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    CHECK(receive(decoder) == 0);
    line.bytes[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
  }
}

TEST("a frame longer than the buffer is dropped and the next one arrives") {
  uint8_t small[20];
  FrameDecoder decoder;
  send(200, 9);
  CHECK(receive(decoder, small, sizeof small) == 0 && decoder.damaged() == 1);
  send(sizeof small - protocol::kFrameCrcBytes, 9);
  CHECK(receive(decoder, small, sizeof small) == 1);
}

}  // namespace tmf
