// Makes the core's functions callable with bytes in and bytes out: as a library for ctypes, and, with TMF_PROCESS, as a program
// for the sanitizers.
#include <cmath>
#include <cstdio>
#include <vector>

#include "coded_facts.hpp"
#include "coded/coded_update.hpp"  // after coded_facts.hpp
#include "crypto/blake2s.hpp"
#include "crypto/chacha20.hpp"
#include "crypto/poly1305.hpp"
#include "crypto/x25519.hpp"
#include "delta_codec.hpp"
#include "frame.hpp"
#include "half.hpp"
#include "kernels/dense_int8.hpp"
#include "level_facts.hpp"
#include "levels/level_load.hpp"  // after level_facts.hpp
#include "levels/level_update.hpp"
#include "kernels/half_tensor.hpp"
#include "log_mel_facts.hpp"
#include "math.hpp"
#include "prng.hpp"
#include "received.hpp"
#include "sound/log_mel.hpp"
#include "topk.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

// An answer of any length; a Writer would need its capacity in advance.
struct Answer {
  Bytes bytes;

  void raw(const void* from, size_t size) {
    const auto* start = static_cast<const uint8_t*>(from);
    bytes.insert(bytes.end(), start, start + size);
  }
  void u8(uint8_t value) { raw(&value, sizeof value); }
  void u32(uint32_t value) { raw(&value, sizeof value); }
  void f32(float value) { raw(&value, sizeof value); }
};

void crc(tmf::Reader& in, Answer& out) {
  const size_t first = in.u32();  // bytes of the first of two calls
  const uint32_t so_far = tmf::crc32(in.take(first), first);
  const size_t rest = in.left();
  out.u32(tmf::crc32(in.take(rest), rest, so_far));
}

void blake2s(tmf::Reader& in, Answer& out) {
  const uint8_t digest_bytes = in.u8(), key_bytes = in.u8();
  const uint16_t first = in.u16();  // bytes of the first of two calls
  uint8_t key[tmf::Blake2s::kMaxKeyBytes], digest[tmf::Blake2s::kMaxDigestBytes];
  in.bytes(key, key_bytes);
  tmf::Blake2s hash(digest_bytes, key, key_bytes);
  hash.add(in.take(first), first);
  const size_t rest = in.left();
  hash.add(in.take(rest), rest);
  hash.finish(digest);
  out.raw(digest, digest_bytes);
}

void poly1305(tmf::Reader& in, Answer& out) {
  uint8_t factor[tmf::Poly1305::kBytes], hash[tmf::Poly1305::kBytes];
  in.bytes(factor, sizeof factor);
  const size_t size = in.left();
  tmf::Poly1305::hash(factor, in.take(size), size, hash);
  out.raw(hash, sizeof hash);
}

// Multiplies as often as asked, each time with the last product as scalar and the last scalar as point, as RFC 7748 tests it.
void x25519(tmf::Reader& in, Answer& out) {
  uint8_t scalar[tmf::X25519::kBytes], point[sizeof scalar], product[sizeof scalar];
  uint32_t times = in.u32();
  in.bytes(scalar, sizeof scalar);
  in.bytes(point, sizeof point);
  for (; times > 0; --times) {
    tmf::X25519::multiply(scalar, point, product);
    std::memcpy(point, scalar, sizeof point);
    std::memcpy(scalar, product, sizeof scalar);
  }
  out.raw(scalar, sizeof scalar);
}

void chacha20(tmf::Reader& in, Answer& out) {
  const uint32_t index = in.u32();
  uint32_t block[tmf::ChaCha20::kBlockWords];
  tmf::ChaCha20(in.take(tmf::ChaCha20::kKeyBytes)).write(index, block);
  for (const uint32_t word : block) out.u32(word);
}

void frame_encode(tmf::Reader& in, Answer& out) {
  const size_t size = in.left();
  Bytes body(size + tmf::protocol::kFrameCrcBytes);
  in.bytes(body.data(), size);
  tmf::send_frame(body.data(), size, [&](const uint8_t* from, size_t count) { out.raw(from, count); });
}

void frame_decode(tmf::Reader& in, Answer& out) {
  Bytes buffer(in.u32());
  tmf::FrameDecoder decoder;
  while (in.left() > 0) {
    if (!decoder.push(in.u8(), buffer.data(), buffer.size())) continue;
    out.u32(static_cast<uint32_t>(decoder.size()));
    out.raw(buffer.data(), decoder.size());
  }
  out.u32(decoder.damaged());
}

void to_half(tmf::Reader& in, Answer& out) {
  while (in.left() > 0) {
    uint16_t bits = 0;
    out.u8(static_cast<uint8_t>(tmf::to_f16(in.f32(), bits)));
    out.raw(&bits, sizeof bits);
  }
}

void from_half(tmf::Reader& in, Answer& out) {
  while (in.left() > 0) out.f32(tmf::from_f16(in.u16()));
}

float rounded_to_half(float x) { return tmf::kernels::rounded_to_half(x); }

// The kernels' tensor of these numbers, packed and unpacked.
void packed_and_unpacked(tmf::Reader& in, Answer& out) {
  constexpr int kSize = 7;
  float x[kSize], packed[(kSize + 1) / 2], y[kSize];
  while (in.left() > 0) {
    for (float& each : x) each = in.f32();
    tmf::kernels::PackHalf<kSize>::forward(x, packed);
    tmf::kernels::UnpackHalf<kSize>::forward(packed, y);
    for (const float each : y) out.f32(each);
  }
}

template <float (*function)(float)>
void map(tmf::Reader& in, Answer& out) {
  while (in.left() > 0) out.f32(function(in.f32()));
}

void threefry(tmf::Reader& in, Answer& out) {
  const tmf::Pair key{in.u32(), in.u32()};
  const tmf::Pair counter{in.u32(), in.u32()};
  const tmf::Pair words = tmf::threefry(key, counter);
  out.u32(words.first);
  out.u32(words.second);
}

void draw(tmf::Reader& in, Answer& out) {
  const uint32_t seed = in.u32();
  const uint32_t client = in.u32();
  const uint32_t round = in.u32();
  const auto stream = static_cast<tmf::protocol::Stream>(in.u8());
  while (in.left() > 0) {
    const tmf::Pair words = tmf::draw(seed, client, round, stream, in.u32());
    out.u32(words.first);
    out.u32(words.second);
    out.f32(tmf::uniform(words.first));
  }
}

std::vector<float> floats(tmf::Reader& in) {
  std::vector<float> values(in.left() / sizeof(float));
  for (float& value : values) value = in.f32();
  return values;
}

template <uint32_t kBins>
void select(tmf::Reader& in, Answer& out) {
  const uint32_t k = in.u32();
  const std::vector<float> delta = floats(in);
  uint32_t histogram[kBins];
  const auto n = static_cast<uint32_t>(delta.size());
  const auto priority_at = [&](uint32_t i) { return tmf::magnitude_bits(delta.at(i)); };
  const tmf::Part part = tmf::select_top(priority_at, 0, n, k, histogram);
  out.u32(part.threshold);
  out.u32(part.ties);
  tmf::Cursor cursor{0, 0, 0, part.ties};
  while (cursor.rank < k) out.u32(tmf::next_selected(priority_at, &part, n, cursor));
}

// A delta in the messages of the wire table.
template <uint32_t kLayers>
struct Packed {
  using Message = tmf::protocol::Delta;
  template <typename DeltaAt, uint32_t kBins>
  tmf::Status plan(tmf::DeltaEncoder<kLayers>&, DeltaAt, uint32_t (&)[kBins]) {
    return tmf::Status::kOk;
  }
  template <typename DeltaAt>
  tmf::Status encode(tmf::DeltaEncoder<kLayers>& encoder, DeltaAt delta_at, uint32_t rank, Message& header, uint8_t* data,
                     size_t capacity, size_t& size) const {
    return encoder.encode(delta_at, rank, header, data, capacity, size);
  }
};

// A delta in messages with levels. The encoder's own scale is that of int8.
template <uint32_t kLayers, uint32_t kBits, bool kIsRanged>
struct Levels {
  using Update = tmf::LevelUpdate<kBits, kIsRanged>;
  using Message = tmf::protocol::LevelDelta;
  tmf::delta::Format format;

  template <typename DeltaAt, uint32_t kBins>
  tmf::Status plan(tmf::DeltaEncoder<kLayers>& encoder, DeltaAt delta_at, uint32_t (&)[kBins]) {
    float largest = 0;
    const tmf::Status status = encoder.walk(delta_at, 0, [&](uint32_t, float value) {
      largest = std::fmax(largest, std::fabs(value));
      return true;
    });
    format.dtype = tmf::protocol::Dtype::kI8;
    format.scale = largest / static_cast<float>(Update::kLargest);
    if (format.scale < 0x1p-126f) format.scale = 0;
    return status;
  }
  template <typename DeltaAt>
  tmf::Status encode(tmf::DeltaEncoder<kLayers>& encoder, DeltaAt delta_at, uint32_t rank, Message& header, uint8_t* data,
                     size_t capacity, size_t& size) const {
    if (rank >= encoder.count()) return tmf::Status::kBadOffset;
    header.rank = rank;
    header.scale = format.scale;
    return Update::write(
        [&](auto each) {
          return encoder.walk(delta_at, rank, [&](uint32_t index, float value) {
            uint32_t bits = 0;
            (void)format.convert(value, bits);
            return each(index, static_cast<int32_t>(static_cast<int8_t>(bits)));
          });
        },
        encoder.coding(), header, data, capacity, size);
  }
};

template <uint32_t kLayers, typename Coder>
void delta(tmf::Reader& in, Answer& out) {
  constexpr uint32_t kNext = 0xFFFFFFFF;  // the rank after the previous chunk; there is no answer after the last chunk
  struct Ask {
    uint32_t rank;
    uint32_t capacity;
  };
  tmf::protocol::Recipe recipe;
  recipe.read(in);
  const tmf::Key key{in.u32(), in.u32(), in.u32()};
  uint32_t ends[kLayers];
  for (uint32_t& end : ends) end = in.u32();
  std::vector<Ask> asks(in.u32());
  for (Ask& ask : asks) ask = {in.u32(), in.u32()};
  const std::vector<float> values = floats(in);
  const auto delta_at = [&](uint32_t i) { return values.at(i); };
  uint32_t histogram[128];
  tmf::DeltaEncoder<kLayers> encoder;
  Coder coder;
  tmf::Status frozen = encoder.freeze(delta_at, ends, recipe, key, histogram);
  if (frozen == tmf::Status::kOk) frozen = coder.plan(encoder, delta_at, histogram);
  out.u8(static_cast<uint8_t>(frozen));
  uint32_t next = 0;
  for (const Ask& ask : asks) {
    if (ask.rank == kNext && next > 0 && next == encoder.count()) continue;
    typename Coder::Message message;
    Bytes data(ask.capacity);
    const uint32_t rank = ask.rank == kNext ? next : ask.rank;
    const tmf::Status status = coder.encode(encoder, delta_at, rank, message, data.data(), data.size(), message.data_size);
    out.u8(static_cast<uint8_t>(status));
    if (status != tmf::Status::kOk) continue;
    next = rank + message.count;
    message.data = data.data();
    Bytes payload(Coder::Message::kFixedSize + message.data_size);
    tmf::Writer writer(payload.data(), payload.size());
    message.write(writer);
    out.u32(static_cast<uint32_t>(payload.size()));
    out.raw(payload.data(), payload.size());
  }
}

inline constexpr uint32_t kEnds[] = {7, 8, 40};  // core_harness.TENSORS

// Reads Loads until the input ends and answers each with its status; then writes all weights, as floats and as stored.
template <tmf::protocol::Dtype kDtype>
void received(tmf::Reader& in, Answer& out) {
  tmf::Received<kDtype, kEnds> stored;
  float weights[40] = {};
  while (in.left() > 0) {
    tmf::protocol::Load load;
    load.offset = in.u32();
    load.scale = in.f32();
    load.data_size = in.u32();
    load.data = in.take(load.data_size);
    const tmf::Status status = stored.check(load);
    out.u8(static_cast<uint8_t>(status));
    if (status == tmf::Status::kOk) stored.store(load, weights);
  }
  for (const float weight : weights) out.f32(weight);
  for (uint32_t i = 0; i < 40; ++i) out.f32(stored[i]);
}

// What LoadOfLevels needs of a learner.
struct LevelOwner {
  tmf::Received<tmf::protocol::Dtype::kI8, kEnds> received_;
  float parameters_[40] = {};
  bool has_session_ = true;
  uint32_t loaded = 0;
  struct Outcome {
    tmf::Status status;
    uint32_t detail;
    bool ok() const { return status == tmf::Status::kOk; }
  };
  template <typename Check, typename Store>
  Outcome take_load(const tmf::protocol::LoadLevels& message, size_t count, Check check, Store store) {
    if (message.offset != loaded || count > 40 - loaded) return {tmf::Status::kBadOffset, loaded};
    if (const tmf::Status status = check(); status != tmf::Status::kOk) return {status, loaded};
    store();
    loaded += static_cast<uint32_t>(count);
    return {tmf::Status::kOk, 0};
  }
  uint32_t next_offset() const { return loaded; }
};

// Reads the payloads of LoadLevels until the input ends and answers each with its status; then writes all weights, as floats and as
// stored.
template <uint32_t kBits, bool kTakesRange>
void received_levels(tmf::Reader& in, Answer& out) {
  LevelOwner owner;
  while (in.left() > 0) {
    const uint32_t size = in.u32();
    const uint8_t* const start = in.take(size);
    const Bytes payload(start, start + size);  // of the exact size, for the sanitizers
    uint8_t answer[16];
    tmf::Writer writer(answer, sizeof answer);
    uint32_t detail = 0;
    out.u8(static_cast<uint8_t>(tmf::LoadOfLevels<kBits, kTakesRange>::answer(tmf::protocol::LoadLevels::kType, payload.data(),
                                                                              payload.size(), writer, detail, owner)));
  }
  for (const float weight : owner.parameters_) out.f32(weight);
  for (uint32_t i = 0; i < 40; ++i) out.f32(owner.received_[i]);
}

void scaled(tmf::Reader& in, Answer& out) {
  while (in.left() > 0) {
    const auto x = static_cast<int32_t>(in.u32()), multiplier = static_cast<int32_t>(in.u32());
    out.u32(static_cast<uint32_t>(tmf::kernels::scaled(x, multiplier, static_cast<int32_t>(in.u32()))));
  }
}

void double_product(tmf::Reader& in, Answer& out) {
  while (in.left() > 0) {
    const auto x = static_cast<int32_t>(in.u32());
    const auto high = static_cast<int32_t>(in.u32()), low = static_cast<int32_t>(in.u32());
    out.u32(static_cast<uint32_t>(tmf::kernels::double_product(x, high, low, static_cast<int32_t>(in.u32()))));
  }
}

// Reads the lengths of recordings, then their samples. Answers with the spectrogram of each sound that is complete; a recording
// of which the length is odd is not finished.
void sounds(tmf::Reader& in, Answer& out) {
  using Facts = tmf::sound::LogMelFacts;
  static tmf::sound::LogMel<Facts> front_end;
  front_end = {};
  const auto answer = [&] {
    uint8_t levels[Facts::kBands * Facts::kFrames];
    front_end.write(levels);
    out.raw(levels, sizeof levels);
  };
  std::vector<uint32_t> lengths(in.u32());
  for (uint32_t& length : lengths) length = in.u32();
  for (const uint32_t length : lengths) {
    for (uint32_t i = 0; i < length; ++i) {
      if (front_end.add(static_cast<int16_t>(in.u16()))) answer();
    }
    if (length % 2 == 0 && front_end.finish()) answer();
  }
}

using Operation = void (*)(tmf::Reader&, Answer&);
constexpr Operation kOperations[] = {  // in the order of core_harness.Operation
    crc, frame_encode, frame_decode, to_half, from_half, map<tmf::exp>, map<tmf::sin>, map<tmf::tanh>,
    map<tmf::sqrt>, map<tmf::expm1>, map<tmf::log1p>, map<tmf::erf>, threefry, draw, select<128>, select<2>, delta<1, Packed<1>>, delta<3, Packed<3>>,
    received<tmf::protocol::Dtype::kF32>, received<tmf::protocol::Dtype::kF16>, received<tmf::protocol::Dtype::kI8>,
    scaled, double_product, map<tmf::log2>, sounds,
    blake2s, poly1305, x25519, chacha20, delta<1, tmf::CodedUpdate>, delta<3, tmf::CodedUpdate>, map<rounded_to_half>,
    packed_and_unpacked,
    delta<1, Levels<1, 8, true>>, delta<1, Levels<1, 4, true>>, delta<1, Levels<1, 3, true>>, delta<1, Levels<1, 2, true>>,
    delta<1, Levels<1, 4, false>>, delta<3, Levels<3, 4, true>>,
    received_levels<8, true>, received_levels<4, true>, received_levels<3, true>, received_levels<2, true>, received_levels<4, false>,
};

Bytes call(uint8_t operation, const uint8_t* data, size_t size) {
  tmf::Reader in(data, size);
  Answer out;
  kOperations[operation](in, out);
  return out.bytes;
}

}  // namespace

#ifdef TMF_PROCESS

int main() {
  uint8_t operation;
  uint32_t size;
  while (std::fread(&operation, 1, 1, stdin) == 1 && std::fread(&size, 4, 1, stdin) == 1) {
    Bytes request(size);
    if (size > 0 && std::fread(request.data(), size, 1, stdin) != 1) return 1;
    const Bytes answer = call(operation, request.data(), request.size());
    size = static_cast<uint32_t>(answer.size());
    std::fwrite(&size, 4, 1, stdout);
    if (size > 0) std::fwrite(answer.data(), 1, size, stdout);
    std::fflush(stdout);
  }
  return 0;
}

#else

// The answer stays valid until the next call.
extern "C" size_t core_call(uint8_t operation, const uint8_t* data, size_t size, const uint8_t** answer) {
  static Bytes last;
  last = call(operation, data, size);
  *answer = last.data();
  return last.size();
}

#endif
