// One case per message of the wire table.
#include "dispatch.hpp"

#include <cstring>

#include "port.hpp"

namespace tmf {

using namespace protocol;  // NOLINT: this file is the wire table's counterpart

void Dispatcher::receive(const uint8_t* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    if (!decoder_.push(bytes[i])) continue;
    const uint8_t* frame = decoder_.data();
    handle(frame[0], frame[1], frame + kFrameHeaderBytes, decoder_.size() - kFrameHeaderBytes);
  }
}

bool Dispatcher::work() {
  const bool trained = learner_.work();
  if (pending_.active && learner_.settled(pending_.question.round, pending_.question.step)) {
    pending_.active = false;
    learner_.clear_detail();
    Writer out(answer_ + kFrameHeaderBytes, kMostPayload);
    const Status status = answer_progress(pending_.question.round, out);
    send_result(Await::kType, pending_.sequence, status, out.size());
  }
  return trained;
}

void Dispatcher::handle(uint8_t type, uint8_t sequence, const uint8_t* payload, size_t size) {
  if (type == Await::kType) {
    // Answered by work(), between two samples; asked again, only the last question is.
    Await question;
    if (parse(payload, size, question)) {
      pending_ = {true, sequence, question};
    } else {
      send_result(type, sequence, Status::kBadLength, 0);
    }
    return;
  }
  Writer out(answer_ + kFrameHeaderBytes, kMostPayload);
  learner_.clear_detail();
  Status status = answer(type, payload, size, out);
  if (status == Status::kOk && !out.ok()) status = Status::kTooLarge;
  send_result(type, sequence, status, out.size());
}

Status Dispatcher::answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out) {
  switch (type) {
    case Hello::kType: {
      Hello request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      HelloAnswer hello;
      hello.protocol_version = kProtocolVersion;
      std::memcpy(hello.schema_hash, kSchemaHash, sizeof hello.schema_hash);
      std::memcpy(hello.model_hash, model::kModelHash, sizeof hello.model_hash);
      std::memcpy(hello.board, board::kBoardName, sizeof hello.board);
      port::unique_id(hello.unique_id);
      hello.receive_window = static_cast<uint16_t>(board::kReceiveWindow);
      hello.ticks_per_second = board::kTicksPerSecond;
      hello.write(out);
      return Status::kOk;
    }
    case Configure::kType: {
      Configure request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      return learner_.configure(request);
    }
    case Load::kType: {
      Load request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      if (const Status status = learner_.load(request); status != Status::kOk) return status;
      out.u32(learner_.next_offset());
      return Status::kOk;
    }
    case Train::kType: {
      Train request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      if (const Status status = learner_.train(request); status != Status::kOk) return status;
      return answer_progress(request.round, out);
    }
    case Sample::kType: {
      Sample request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      if (const Status status = learner_.sample(request); status != Status::kOk) return status;
      return answer_progress(request.round, out);
    }
    case Pull::kType: {
      Pull request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      Delta header;
      // The entries are encoded where they leave from, behind the header that only they can complete.
      uint8_t* const start = out.reserve(Delta::kFixedSize);
      size_t size_of_data = 0;
      const Status status = learner_.pull(request, header, start + Delta::kFixedSize, out.left(), size_of_data);
      if (status != Status::kOk) return status;
      Writer head(start, Delta::kFixedSize);
      header.write(head);
      out.reserve(size_of_data);
      return Status::kOk;
    }
    case Fetch::kType: {
      Fetch request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      return learner_.fetch(request, out);
    }
    case Predict::kType: {
      Predict request;
      if (!parse(payload, size, request)) return Status::kBadLength;
      return learner_.predict(request, out);
    }
    default: return Status::kUnknownType;
  }
}

Status Dispatcher::answer_progress(uint32_t round, Writer& out) {
  Progress progress;
  if (const Status status = learner_.progress(round, progress); status != Status::kOk) return status;
  progress.write(out);
  return Status::kOk;
}

void Dispatcher::send_result(uint8_t type, uint8_t sequence, Status status, size_t payload_size) {
  if (status == Status::kOk) {
    send(static_cast<uint8_t>(type | kAnswerBit), sequence, payload_size);
    return;
  }
  ErrorAnswer error;
  error.status = static_cast<uint8_t>(status);
  error.detail = learner_.detail();
  Writer out(answer_ + kFrameHeaderBytes, ErrorAnswer::kFixedSize);
  error.write(out);
  send(static_cast<uint8_t>(kErrorType), sequence, out.size());
}

void Dispatcher::send(uint8_t type, uint8_t sequence, size_t payload_size) {
  answer_[0] = type;
  answer_[1] = sequence;
  send_frame(answer_, kFrameHeaderBytes + payload_size, port::write);
}

}  // namespace tmf
