// The operations of an input: raw bytes, frames, damaged frames, repeated frames, training steps.
#pragma once

#include "checks.hpp"

namespace {

void feed(const Bytes& wire, Bytes& line, Reply* last = nullptr) {
  size_t start = 0;
  for (size_t i = 0; i < wire.size(); ++i) {
    if (wire[i] != 0 && i + 1 < wire.size()) continue;
    Reply answer = feed_piece(wire.data() + start, i + 1 - start, line);
    if (last != nullptr && answer.present) *last = answer;
    start = i + 1;
  }
}

void run(const Operation& operation, Bytes& line) {
  const Bytes data(operation.data, operation.data + operation.size);
  switch (operation.kind) {
    case kRaw: feed(data, line); break;
    case kFrame: feed(framed(data), line); break;
    case kDamaged: {
      // The last three bytes give the position and the bits to flip.
      if (data.size() < 4) break;
      Bytes wire = framed(Bytes(data.begin(), data.end() - 3));
      const size_t at = data[data.size() - 3] | static_cast<size_t>(data[data.size() - 2]) << 8;
      wire[at % wire.size()] ^= data.back();
      feed(wire, line);
      break;
    }
    case kTwice: {
      const Bytes wire = framed(data);
      feed({0}, line);  // ends an unfinished frame of the last operation
      Reply first;
      Reply second;
      feed(wire, line, &first);
      if (!first.present || has_dropped_parts()) break;  // the host begins that sample again
      Snapshot after_first;
      after_first.take();
      feed(wire, line, &second);
      // Both answers have the same ticks, as nothing is trained between them.
      check(second.present && first.body == second.body, "I11", "a repeated request got another answer");
      if (first.body[0] != (Pull::kType | kAnswerBit))  // a Pull moves the encoder's cursor
        check(after_first.unchanged(), "I11", "a repeated request has changed the device again");
      break;
    }
    default:
      for (int i = 0; i < (data.empty() ? 1 : data[0] % 32); ++i) work();
  }
}

}  // namespace
