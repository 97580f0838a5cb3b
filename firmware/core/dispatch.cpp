// Decodes each request, calls the learner and encodes the answer: one case for each message of the wire table.
#include "dispatch.hpp"

#include <cstring>

#include "port.hpp"

namespace tmf {

using namespace protocol;  // NOLINT: nearly every name in this file is one of the wire table

namespace {

void say_hello(Writer& out) {
  HelloAnswer hello;
  hello.protocol_version = kProtocolVersion;
  std::memcpy(hello.schema_hash, kSchemaHash, sizeof hello.schema_hash);
  std::memcpy(hello.model_hash, model::kModelHash, sizeof hello.model_hash);
  std::memcpy(hello.board, board::kBoardName, sizeof hello.board);
  port::unique_id(hello.unique_id);
  hello.receive_window = static_cast<uint16_t>(board::kReceiveWindow);
  hello.ticks_per_second = board::kTicksPerSecond;
  hello.write(out);
}

}  // namespace

size_t Dispatcher::receive(const uint8_t* bytes, size_t size) {
  size_t used = 0;
  while (used < size) {
    const uint8_t byte = bytes[used++];
    const bool ended = kMacBytes > 0 ? decoder_.push_unchecked(byte, request_, kCapacity) : decoder_.push(byte, request_, kCapacity);
    if (!ended) continue;
    size_t content = decoder_.size();
    const Verdict verdict = admit(request_, content);
    if (verdict == Verdict::kTaken) {
      handle(request_[0], request_[1], request_ + kFrameHeaderBytes, content - kFrameHeaderBytes);
    } else if (verdict == Verdict::kRefused) {
      send_outcome(request_[0], request_[1], Status::kBadState, 0);
    }
    break;
  }
  return used;
}

bool Dispatcher::work() {
  const bool continues = learner_.in_step();
  if (continues) learner_.continue_step();
  const bool trained = continues || learner_.work();
  if constexpr (kSplitsSteps) {
    if (waits_ && !learner_.in_step()) {
      waits_ = false;
      Writer out(answer_ + kFrameHeaderBytes, kMostPayload);
      const Outcome outcome = type_ == Sample::kType ? answer_progress(learner_.token(), out) : learner_.sample_taken(out);
      send_outcome(type_, sequence_, outcome, out.size());
    }
    if (learner_.in_step()) return true;
  }
  if (pending_.active && learner_.can_answer(pending_.request.token, pending_.request.step)) {
    pending_.active = false;
    Writer out(answer_ + kFrameHeaderBytes, kMostPayload);
    const Outcome outcome = answer_progress(pending_.request.token, out);
    send_outcome(Await::kType, pending_.sequence, outcome, out.size());
  }
  return trained;
}

void Dispatcher::handle(uint8_t type, uint8_t sequence, const uint8_t* payload, size_t size) {
  if (type == Await::kType) {
    // work() answers it between two samples. A second Await replaces the first.
    Await request;
    if (const Status status = parse(payload, size, request); status != Status::kOk) {
      send_outcome(type, sequence, status, 0);
    } else {
      pending_ = {true, sequence, request};
    }
    return;
  }
  Writer out(answer_ + kFrameHeaderBytes, kMostPayload);
  if constexpr (kMacBytes > 0) {
    const Status status = Authentication::answer(request_, kFrameHeaderBytes + size, say_hello, out, pending_.active);
    if (status != Status::kUnknownType) {
      send_outcome(type, sequence, status, out.size());
      return;
    }
  }
  Outcome outcome = answer(type, payload, size, out);
  if constexpr (kSplitsSteps) {
    if (learner_.in_step()) {  // a sample, which is answered at the end of its step
      waits_ = true;
      type_ = type;
      sequence_ = sequence;
      return;
    }
  }
  if (outcome.ok() && !out.ok()) outcome = Status::kTooLarge;
  send_outcome(type, sequence, outcome, out.size());
}

Outcome Dispatcher::answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
  switch (type) {
    case Hello::kType: {
      Hello request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      say_hello(out);
      return Status::kOk;
    }
    case Configure::kType: {
      Configure request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      if (const Outcome outcome = learner_.configure(request); !outcome.ok()) return outcome;
      ConfigureAnswer().write(out);
      return Status::kOk;
    }
    case Load::kType: {
      Load request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      if (const Outcome outcome = learner_.load(request); !outcome.ok()) return outcome;
      LoadAnswer answer;
      answer.next_offset = learner_.next_offset();
      answer.write(out);
      return Status::kOk;
    }
    case Train::kType: {
      Train request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      if (const Outcome outcome = learner_.train(request); !outcome.ok()) return outcome;
      return answer_progress(request.token, out);
    }
    case Sample::kType: {
      Sample request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      if (const Outcome outcome = learner_.sample(request); !outcome.ok()) return outcome;
      return answer_progress(request.token, out);
    }
    case Pull::kType: {
      Pull request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      Delta header;
      // The entries are encoded in the answer itself. The head before them is written last: it says how many entries there are.
      uint8_t* const start = out.reserve(Delta::kFixedSize);
      size_t size_of_data = 0;
      const Outcome outcome = learner_.pull(request, header, start + Delta::kFixedSize, out.left(), size_of_data);
      if (!outcome.ok()) return outcome;
      Writer head(start, Delta::kFixedSize);
      header.write_head(head);
      out.reserve(size_of_data);
      return Status::kOk;
    }
    case Fetch::kType: {
      Fetch request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      return learner_.fetch(request, out);
    }
    case Predict::kType: {
      Predict request;
      if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
      return learner_.predict(request, out);
    }
    default:
      if constexpr (SampleParts::kTakesParts) {
        const Outcome outcome = learner_.parts(type, payload, size, out);
        if (outcome.status != Status::kUnknownType) return outcome;
      }
      return also_ == nullptr ? Status::kUnknownType : also_(type, payload, size, out);
  }
}

Outcome Dispatcher::answer_progress(uint32_t token, Writer& out) {
  Progress progress;
  if (const Outcome outcome = learner_.progress(token, progress); !outcome.ok()) return outcome;
  progress.write(out);
  return Status::kOk;
}

void Dispatcher::send_outcome(uint8_t type, uint8_t sequence, const Outcome& outcome, size_t payload_size) {
  if (outcome.ok()) {
    send(static_cast<uint8_t>(type | kAnswerBit), sequence, sealed(type, static_cast<uint8_t>(type | kAnswerBit), sequence, payload_size));
    return;
  }
  ErrorAnswer error;
  error.status = outcome.status;
  error.detail = outcome.detail;
  Writer out(answer_ + kFrameHeaderBytes, ErrorAnswer::kFixedSize);
  error.write(out);
  send(static_cast<uint8_t>(kErrorType), sequence, sealed(type, static_cast<uint8_t>(kErrorType), sequence, out.size()));
}

size_t Dispatcher::sealed(uint8_t request, uint8_t type, uint8_t sequence, size_t payload_size) {
  if constexpr (kMacBytes > 0) {
    answer_[0] = type;
    answer_[1] = sequence;
    return seal(request, answer_, kFrameHeaderBytes + payload_size) - kFrameHeaderBytes;
  }
  return payload_size;
}

void Dispatcher::send(uint8_t type, uint8_t sequence, size_t payload_size) {
  answer_[0] = type;
  answer_[1] = sequence;
  send_frame(answer_, kFrameHeaderBytes + payload_size, port::write);
}

}  // namespace tmf
