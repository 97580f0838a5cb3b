// The fuzz harness's inputs: their format, and a generator that makes them from a seed with a host that is mostly correct.
//
// The first byte selects a stored state, the codec or the decoder. Operations follow: kind u8, size u16 and `size` bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "board.hpp"
#include "model.hpp"
#include "reference.hpp"
#include "source.hpp"

#if __has_include(<privacy_facts.hpp>)  // generated for firmware of private updates only
#include <privacy_facts.hpp>
#define HAS_PRIVACY 1
#else
#define HAS_PRIVACY 0
#endif

#if __has_include(<sample_parts_facts.hpp>)  // generated for firmware that takes samples in parts only
#include <sample_parts.hpp>
#define HAS_PARTS 1
#else
#define HAS_PARTS 0
#endif

namespace fuzz {

constexpr size_t kWindow = board::kReceiveWindow;
constexpr uint32_t kGlobal = model::kGlobalCount;
constexpr uint32_t kParameters = model::kParameterCount;

enum Kind : uint8_t { kRaw, kFrame, kDamaged, kTwice, kWork, kKinds };
constexpr uint8_t kStates = 12;
constexpr uint8_t kCodec = 14;
constexpr uint8_t kDecoder = 15;

struct Operation {
  Kind kind;
  const uint8_t* data;
  size_t size;
};

inline bool next_operation(Reader& in, Operation& operation) {
  if (in.left() < 3) return false;
  operation.kind = static_cast<Kind>(in.u8() % kKinds);
  const size_t size = in.u16();
  operation.size = std::min(size, in.left());
  operation.data = in.take(operation.size);
  return true;
}

template <typename Message>
inline Bytes body_of(const Message& message, uint8_t sequence) {
  Bytes body(Message::kFixedSize + 2 * kWindow + 2 * kGlobal + 64);
  Writer out(body.data(), body.size());
  out.u8(Message::kType);
  out.u8(sequence);
  message.write(out);
  body.resize(out.size());
  return body;
}

constexpr uint32_t kSession = 77;
constexpr uint32_t kToken = 5;
constexpr uint32_t kRun = 3;
constexpr uint8_t kRecall = 0x20;  // types of the messages that only firmware with a store knows
constexpr uint8_t kKeep = 0x21;
constexpr uint8_t kLook = 0x22;
constexpr uint8_t kSamplePart = 0x10;  // types of the messages that only firmware knows that takes samples in parts
constexpr uint8_t kInputPart = 0x11;
constexpr uint32_t kSteps = 3 * 2 + 2 * 1;  // steps of the stored states' program TRAIN

inline Configure configuration(Program program, Dtype uplink) {
  Configure message{};
  message.session = kSession;
  message.program = program;
  const bool trains = program == Program::kTrain;
  message.recipe.phases[0] = {Variant::kLocal, SampleSet::kSupport, 3, 2, 0.01f, 0.0f};
  message.recipe.phases[1] = {trains ? Variant::kGlobal : Variant::kFull, SampleSet::kQuery, 2, 1, 0.01f, 1.0f};
  message.recipe.top_k = trains ? kGlobal / 2 + 1 : 0;
  message.recipe.uplink = uplink;
  message.recipe.selection = static_cast<Selection>(uplink);  // each Dtype is tested with another Selection
#if HAS_PRIVACY  // it takes no other delta
  message.recipe.top_k = trains ? privacy::kEntries : 0;
  message.recipe.uplink = privacy::kUplink;
  message.recipe.selection = Selection::kRandom;
#endif
  return message;
}

constexpr size_t kWidth = width(model::kDownlink);  // bytes of a weight in a Load
constexpr bool kScaled = model::kDownlink == Dtype::kI8;
constexpr float kScale = 0.004f;

// The largest end of a Load that starts at `offset`: int8 has a scale per tensor, so a Load must not cross a tensor's end.
inline uint32_t end_of_load(uint32_t offset) {
  return kScaled ? *std::upper_bound(std::begin(model::kGlobalEnds), std::end(model::kGlobalEnds), offset) : kGlobal;
}

// The most bytes of data in a message whose other fields have so many.
constexpr size_t most_data(size_t fixed) { return kWindow - 8 - kWindow / 254 - fixed - 6; }

// A Load of global weights from `offset` on in the model's dtype, with nearly as many as fit.
inline Load weights_from(uint32_t token, uint32_t offset, Bytes& data) {
  const uint32_t most = static_cast<uint32_t>(most_data(Load::kFixedSize) / kWidth);
  const uint32_t count = std::min(most, end_of_load(offset) - offset);
  data.resize(count * kWidth);
  for (uint32_t i = 0; i < count; ++i) {
    const uint8_t level = static_cast<uint8_t>((offset + i) * 37 + 11);
    const float value = static_cast<float>(static_cast<int8_t>(level)) * kScale;
    uint16_t half = 0;
    check(to_f16(value, half) == Status::kOk, "I4", "a moderate number does not fit float16");
    const uint32_t bits = kScaled ? level : kWidth == 2 ? half : bits_of<uint32_t>(value);
    for (size_t byte = 0; byte < kWidth; ++byte) data[i * kWidth + byte] = static_cast<uint8_t>(bits >> (8 * byte));
  }
  return {token, offset, model::kDownlink, kScale, data.data(), data.size()};
}

constexpr uint32_t input_bytes(Dtype dtype) { return static_cast<uint32_t>(width(dtype)) * model::kInputSize; }
constexpr uint32_t sample_bytes(Dtype dtype) { return 4 * model::kTargetSize + input_bytes(dtype); }

// In F32, bytes of moderate numbers.
inline Bytes sample_data(Dtype dtype = Dtype::kU8) {
  Bytes data(sample_bytes(dtype));
  for (size_t i = 4 * model::kTargetSize; i < data.size(); ++i) data[i] = static_cast<uint8_t>(dtype == Dtype::kF32 && i % 4 == 3 ? 0x3E : i * 29);
  return data;
}

// SplitMix64 (Steele et al., 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>((next() >> 32) * limit >> 32); }
  bool once_in(uint32_t times) { return below(times) == 0; }
  template <typename Value>
  Value of(std::initializer_list<Value> values) {
    return values.begin()[below(static_cast<uint32_t>(values.size()))];
  }

 private:
  uint64_t state_;
};

// A host that tracks the device's state and sends messages that fit it, and now and then wrong ones.
class Host {
 public:
  Host(Random& random, uint8_t state) : random_(random) {
    if (state == 0) session_ = random_.once_in(2) ? kSession : 1;
    if (state >= 3) offset_ = kGlobal;
    if (state == 2) offset_ = static_cast<uint32_t>(weights_from(0, 0, scratch_).data_size / kWidth);
    if (state >= 6) step_ = kSteps;
    if (state == 5 || state >= 9) step_ = 7;
    if (state == 11) step_ = 3;
  }

  Bytes message() {
    switch (source::on_device() ? random_.below(34) : random_.below(42)) {
      case 0: return body_of(Hello{}, sequence());
      case 1: case 2: case 3: return body_of(configure(), sequence());
      case 4: case 5: case 6: case 7: case 8: case 9: return load();
      case 10: case 11: case 12:
        step_ = 0;
        return body_of(Train{token(), one_of_two(), number(), number(), number()}, sequence());
      case 13: case 14: case 15: case 16: case 17: return sample();
      case 18: case 19: case 20:
        return body_of(Await{token(), random_.of<uint32_t>({0, 1, step_, step_ + 1, kSteps, 0xFFFFFFFF})}, sequence());
      case 21: case 22: case 23: case 24:
        return body_of(Pull{token(), random_.once_in(8) ? number() : random_.below(kGlobal / 2 + 2)}, sequence());
      case 25: case 26: {
        const uint32_t at = random_.once_in(8) ? number() : random_.below(kParameters + 2);
        return body_of(Fetch{at, static_cast<uint16_t>(random_.once_in(3) ? number() : random_.below(40))}, sequence());
      }
      case 27: case 28:
#if HAS_PARTS
        return input_part();
#endif
      case 29: return predict();
      case 30: case 31: {
        Bytes any = bytes(2 + random_.below(60));
        any[0] = static_cast<uint8_t>(random_.once_in(2) ? random_.below(12) : any[0]);
        return any;
      }
      case 32: case 33: return store();
      default: return next_sample();
    }
  }

  // A sample, or a part of one.
  Bytes next_sample() {
#if HAS_PARTS
    if (!random_.once_in(4)) return sample_part();
#endif
    return sample();
  }

 private:
  Bytes sample() {
    Bytes data = sample_data();
    Sample message{token(), random_.once_in(10) ? number() : step_++, Dtype::kU8, 1.0f / 255, nullptr, 0};
    if (model::kClassCount == 0 || random_.once_in(2)) {
      const uint32_t target = bits_of<uint32_t>(random_.once_in(2) ? 1.0f : real());
      std::memcpy(data.data(), &target, sizeof target);
    }
    if (random_.once_in(15)) message.scale = real();
    if (random_.once_in(15)) message.dtype = static_cast<Dtype>(random_.below(5));
    if (random_.once_in(15)) data.resize(random_.below(static_cast<uint32_t>(data.size()) + 9));
    message.data = data.data();
    message.data_size = data.size();
    return body_of(message, sequence());
  }

#if HAS_PARTS

  // The next part of a sample or an input, most often as long as one message holds.
  template <typename Part>
  void take_part(Part& part, const Bytes& whole, uint32_t& taken) {
    if (taken >= whole.size()) taken = 0;
    const auto left = static_cast<uint32_t>(whole.size()) - taken, most = static_cast<uint32_t>(most_data(Part::kFixedSize));
    part.position += taken;
    part.scale = 1.0f / 255;
    part.data = whole.data() + taken;
    part.data_size = std::min(left, random_.once_in(3) ? random_.below(most + 1) : most);
    taken = part.data_size == left ? 0 : taken + static_cast<uint32_t>(part.data_size);
    if (random_.once_in(15)) part.position = number();
    if (random_.once_in(15)) part.position -= random_.below(static_cast<uint32_t>(whole.size()));
    if (random_.once_in(15)) part.dtype = static_cast<Dtype>(random_.below(5));
    if (random_.once_in(15)) part.scale = real();
  }

  Bytes sample_part() {
    if (sample_taken_ == 0) sample_dtype_ = random_.of({Dtype::kU8, Dtype::kF32});
    Bytes whole = sample_data(sample_dtype_);
    const uint32_t target = bits_of<uint32_t>(random_.once_in(8) ? real() : 1.0f);
    std::memcpy(whole.data(), &target, sizeof target);
    SamplePart part{token(), static_cast<uint32_t>(step_ * whole.size()), sample_dtype_, 0.0f, nullptr, 0};
    if (random_.once_in(30)) whole.resize(whole.size() + 9);
    take_part(part, whole, sample_taken_);
    step_ += sample_taken_ == 0;
    return body_of(part, sequence());
  }

  Bytes input_part() {
    if (input_taken_ == 0) {
      input_dtype_ = random_.of({Dtype::kU8, Dtype::kF32});
      if (!random_.once_in(8)) ++input_number_;
    }
    const Bytes sample = sample_data(input_dtype_), whole(sample.begin() + 4 * model::kTargetSize, sample.end());
    InputPart part{input_number_, 0, input_dtype_, 0.0f, nullptr, 0};
    take_part(part, whole, input_taken_);
    return body_of(part, sequence());
  }

#endif

  uint8_t sequence() { return static_cast<uint8_t>(random_.next()); }
  Program one_of_two() { return static_cast<Program>(random_.once_in(20) ? random_.next() : random_.below(2)); }
  uint32_t number() {
    return random_.of<uint32_t>({0, 1, 2, kGlobal, kParameters, 1u << 31, 0xFFFFFFFF, static_cast<uint32_t>(random_.next())});
  }
  uint32_t token() {
    if (!random_.once_in(12)) return token_;
    return random_.of<uint32_t>({token_ + 1, token_ - 1, 0, 0xFFFFFFFF, number()});
  }
  float real() {
    if (!random_.once_in(40)) return static_cast<float>(static_cast<int32_t>(random_.next())) * 0x1p-33f;
    return bits_of<float>(random_.of<uint32_t>({0, 0x80000000, 1, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF,
                                                0x477FEFFF, 0x477FF000, static_cast<uint32_t>(random_.next())}));
  }
  Bytes bytes(size_t size) {
    Bytes made(size);
    for (uint8_t& byte : made) byte = static_cast<uint8_t>(random_.once_in(4) ? 0 : random_.next());
    return made;
  }

  Configure configure() {
    const bool again = random_.once_in(2);
    Configure message = configuration(one_of_two(), random_.of({Dtype::kF32, Dtype::kF16, Dtype::kI8}));
    if (random_.once_in(10)) session_ = number();
    message.session = session_;
    if (again) return message;
    for (Phase& phase : message.recipe.phases) {
      phase.variant = static_cast<Variant>(random_.below(random_.once_in(20) ? 256 : 3));
      phase.sample_set = static_cast<SampleSet>(random_.below(random_.once_in(20) ? 256 : 4));
      phase.count = static_cast<uint16_t>(random_.once_in(20) ? random_.next() : random_.below(4) + 1);
      phase.passes = static_cast<uint16_t>(random_.once_in(20) ? random_.next() : random_.below(3));
      phase.learning_rate = random_.once_in(20) ? real() : random_.of({0.01f, 0.1f, 1e20f});
      phase.output_clamp = random_.once_in(20) ? real() : random_.of({0.0f, 1.0f});
    }
    if (HAS_PRIVACY && random_.once_in(2)) {  // what such firmware takes: no delta, or one of the size that it is made for
      if (random_.once_in(2)) message.recipe.top_k = 0;
      return message;
    }
    message.recipe.top_k = random_.once_in(10) ? number() : random_.below(kGlobal + 1);
    if (random_.once_in(20)) message.recipe.uplink = static_cast<Dtype>(random_.next());
    message.recipe.selection = static_cast<Selection>(random_.below(random_.once_in(20) ? 256 : 3));
    return message;
  }

  Bytes load() {
    if (random_.once_in(3)) {
      ++token_;
      offset_ = 0;
    }
    const uint32_t offset = random_.once_in(12) ? number() : offset_;
    Load message = weights_from(token(), std::min(offset, kGlobal - 1), scratch_);
    message.offset = offset;
    if (random_.once_in(20)) message.dtype = static_cast<Dtype>(random_.once_in(2) ? random_.next() : random_.below(4));
    if (random_.once_in(4)) {
      for (uint8_t& byte : scratch_) byte = static_cast<uint8_t>(random_.once_in(50) ? random_.next() : byte);
    }
    if (random_.once_in(20)) message.scale = real();
    if (random_.once_in(3)) message.data_size = random_.below(static_cast<uint32_t>(message.data_size) + 1);
    if (!random_.once_in(10)) message.data_size -= message.data_size % kWidth;
    if (random_.once_in(20)) {  // beyond a tensor's end
      scratch_.resize(scratch_.size() + random_.below(9) * kWidth, 1);
      message.data = scratch_.data();
      message.data_size = scratch_.size();
    }
    offset_ = std::min<uint32_t>(kGlobal, offset + static_cast<uint32_t>(message.data_size / kWidth));
    return body_of(message, sequence());
  }

  Bytes predict() {
    const bool levels = random_.once_in(2);
    Bytes data;
    const uint32_t inputs = (1 + random_.below(3)) * model::kInputSize;
    for (uint32_t i = 0; i < inputs; ++i) {
      const uint32_t word = bits_of<uint32_t>(real());
      for (int byte = 0; byte < (levels ? 1 : 4); ++byte) data.push_back(static_cast<uint8_t>(word >> (8 * byte)));
    }
    const size_t most = most_data(Predict::kFixedSize);
    if (data.size() > most) data.resize(most);
    if (random_.once_in(15)) data.resize(random_.below(static_cast<uint32_t>(data.size()) + 1));
    const Dtype dtype = random_.once_in(15) ? static_cast<Dtype>(random_.next()) : levels ? Dtype::kU8 : Dtype::kF32;
    const uint8_t number = sequence();
    const float scale = random_.once_in(15) ? real() : 0.01f;
    return body_of(Predict{dtype, scale, data.data(), data.size()}, number);
  }

  Bytes store() {
    Bytes body = {random_.once_in(2) ? kRecall : random_.once_in(3) ? kLook : kKeep, sequence()};
    if (body[0] == kKeep && random_.once_in(3))
      for (int byte = 0; byte < 16 * 3; ++byte) body.push_back(static_cast<uint8_t>(random_.below(256)));  // of three classes
    const uint32_t run = random_.once_in(4) ? number() : kRun;
    for (int byte = 0; body[0] == kRecall && byte < 4; ++byte) body.push_back(static_cast<uint8_t>(run >> (8 * byte)));
    if (random_.once_in(10)) body.resize(2 + random_.below(9));
    return body;
  }

  Random& random_;
  uint32_t session_ = kSession;
  uint32_t token_ = kToken;
  uint32_t offset_ = 0;
  uint32_t step_ = 0;
  Bytes scratch_;
#if HAS_PARTS
  Dtype sample_dtype_ = Dtype::kU8, input_dtype_ = Dtype::kU8;
  uint32_t sample_taken_ = 0, input_taken_ = 0, input_number_ = 0;
#endif
};

inline void append(Bytes& input, Kind kind, const Bytes& data) {
  input.push_back(kind);
  input.push_back(static_cast<uint8_t>(data.size()));
  input.push_back(static_cast<uint8_t>(data.size() >> 8));
  input.insert(input.end(), data.begin(), data.end());
}

inline Bytes random_bytes(Random& random, size_t size) {
  Bytes made(size);
  for (uint8_t& byte : made) byte = static_cast<uint8_t>(random.next());
  return made;
}

inline void append_operation(Bytes& input, Random& random, Host& host) {
  switch (random.below(16)) {
    case 0: append(input, kRaw, random_bytes(random, random.below(40))); break;
    case 1: append(input, kRaw, {0}); break;
    case 2: case 3: {
      Bytes damaged = host.message();
      for (int i = 0; i < 3; ++i) damaged.push_back(static_cast<uint8_t>(random.next()));
      append(input, kDamaged, damaged);
      break;
    }
    case 4: case 5: {
      Bytes cut = framed(host.message());
      cut.resize(random.below(static_cast<uint32_t>(cut.size()) + 1));
      append(input, kRaw, cut);
      break;
    }
    case 6: case 7:
      append(input, kWork, {static_cast<uint8_t>(random.below(16))});
      for (uint32_t i = source::on_device() ? 0 : random.below(6); i > 0; --i) append(input, kFrame, host.next_sample());
      break;
    case 8: case 9: case 10: append(input, kTwice, host.message()); break;
    default: append(input, kFrame, host.message());
  }
}

inline Bytes generated(Random& random) {
  const uint32_t target = random.below(16);
  if (target == 0) {
    Bytes input = random_bytes(random, 8 + random.below(3) * 100);
    input[0] = kCodec;
    if (random.once_in(2)) input.resize(9);  // values of moderate size
    return input;
  }
  if (target == 1) {
    Bytes input = {kDecoder, static_cast<uint8_t>(random.once_in(2) ? 0 : random.next())};
    for (uint32_t i = random.below(6); i > 0; --i)
      append(input, random.of({kRaw, kFrame}), random_bytes(random, random.below(300)));
    return input;
  }
  const uint8_t state = static_cast<uint8_t>(random.below(kStates));
  Bytes input = {state};
  Host host(random, state);
  for (uint32_t i = 1 + random.below(8); i > 0; --i) append_operation(input, random, host);
  if (random.once_in(8)) {
    for (uint32_t i = 1 + random.below(4); i > 0; --i)
      input[random.below(static_cast<uint32_t>(input.size()))] = static_cast<uint8_t>(random.next());
  }
  return input;
}

}  // namespace fuzz
