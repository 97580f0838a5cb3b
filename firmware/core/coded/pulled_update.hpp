// Answers a request for entries of a frozen delta with a message that an update encodes: coded values or levels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// `Request` is the message that asks, with a token and the rank of the first entry; `Update` encodes its Message. `is_frozen`: the
// cycle `token` has trained, and `delta` has selected its entries, `delta_at(i)`. `detail` becomes that of a refusal. `is_pulled`
// becomes true once the last entry is encoded.
template <typename Request, typename Update, typename Encoder, typename DeltaAt>
[[nodiscard]] Status answer_pull(const Update& update, uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail,
                                 bool is_frozen, uint32_t token, Encoder& delta, DeltaAt delta_at, bool& is_pulled) {
  using Message = typename Update::Message;
  if (type != Request::kType) return Status::kUnknownType;
  Request request;
  if (const Status status = protocol::parse(payload, size, request); status != Status::kOk) return status;
  if (!is_frozen) return Status::kBadState;
  detail = token;
  if (request.token != token) return Status::kBadToken;
  detail = delta.count();
  if (request.rank >= delta.count()) return Status::kBadOffset;
  detail = 0;
  // The entries are encoded in the answer itself; the head before them is written last, as it says how many there are.
  uint8_t* const start = out.reserve(Message::kFixedSize);
  Message header;
  size_t data_size = 0;
  const Status status = update.encode(delta, delta_at, request.rank, header, start + Message::kFixedSize, out.left(), data_size);
  if (status != Status::kOk) return status;
  Writer head(start, Message::kFixedSize);
  header.write_head(head);
  out.reserve(data_size);
  if (header.rank + header.count == delta.count()) is_pulled = true;
  return Status::kOk;
}

}  // namespace tmf
