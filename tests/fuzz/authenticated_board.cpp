// Authenticated firmware in this process, and an attacker on its line: forged, flipped, replayed and reordered frames, of which
// the board may take none. The honest host beside the attacker is this file's own.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "in_process.cpp"

#include "crypto/blake2s.hpp"
#include "crypto/poly1305.hpp"

bool tmf::port::entropy(uint8_t* to, size_t size) {
  static std::mt19937 random(20261129);
  for (size_t i = 0; i < size; ++i) to[i] = static_cast<uint8_t>(random());
  return true;
}

namespace {

using namespace tmf::protocol;
using Bytes = std::vector<uint8_t>;

constexpr size_t kNonce = 16, kProof = 16;

Bytes framed(Bytes body) {
  const size_t size = body.size();
  body.resize(size + kFrameCrcBytes);
  Bytes wire;
  tmf::send_frame(body.data(), size, [&](const uint8_t* from, size_t count) { wire.insert(wire.end(), from, from + count); });
  return wire;
}

// The frames in `wire`: type, sequence and payload of each.
std::vector<Bytes> unframed(const Bytes& wire) {
  std::vector<Bytes> found;
  tmf::FrameDecoder decoder;
  Bytes buffer(2048);
  for (const uint8_t byte : wire)
    if (decoder.push(byte, buffer.data(), buffer.size()))
      found.emplace_back(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(decoder.size()));
  return found;
}

Bytes hashed(const Bytes& key, const Bytes& data, size_t size) {
  tmf::Blake2s hash(size, key.data(), key.size());
  hash.add(data.data(), data.size());
  Bytes digest(size);
  hash.finish(digest.data());
  return digest;
}

template <typename Part>
void append(Bytes& to, const Part& part) {
  to.insert(to.end(), part.begin(), part.end());
}

template <typename Message>
Bytes body(uint8_t sequence, const Message& message) {
  Bytes made(kFrameHeaderBytes + Message::kFixedSize);
  made[0] = Message::kType;
  made[1] = sequence;
  tmf::Writer out(made.data() + kFrameHeaderBytes, Message::kFixedSize);
  message.write(out);
  return made;
}

// What the attacker has tried, by kind, and what has come of it; authenticated_board.py reads both.
enum Kind { kForged, kFlipped, kSpliced, kReplayed, kReordered, kReflected, kOfEarlierSession, kStripped, kHandshake, kKinds };

struct Report {
  uint64_t tried[kKinds];
  uint64_t accepted[kKinds];  // frames that the board has answered with a MAC, or that have changed its state
  uint64_t honest;            // frames of the honest host, all of which have the right answer
  uint64_t repeated;          // its last frame again, which has the same answer
  uint64_t sessions;
  uint64_t counted_forged, counted_replayed;  // by the board
};

class Attack {
 public:
  Attack(uint64_t seed, Report& report) : random_(seed), report_(report), key_(kKeyBytes) {
    for (uint8_t& byte : key_) byte = static_cast<uint8_t>(random_());
    Enroll enroll;
    std::copy(key_.begin(), key_.end(), enroll.key);
    require(ask(body(7, enroll)).size() == 1, "the board has not taken its key");
    begin();
  }

  void run(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      if (i % 16 == 0) advance();
      if (i % 10'000 == 9'999) begin();  // frames of the session before are kept for the attacker
      attack();
    }
    const Bytes answer = sealed_answer(send(request(body(0, AskRefusals()))));
    tmf::Reader fields(answer.data() + kFrameHeaderBytes, Refusals::kFixedSize);
    report_.counted_forged += fields.u32();
    report_.counted_replayed += fields.u32();
    report_.sessions += fields.u32();
  }

 private:
  [[noreturn]] static void fail(const char* why) {
    std::fprintf(stderr, "%s\n", why);
    std::abort();
  }
  static void require(bool is_so, const char* otherwise) {
    if (!is_so) fail(otherwise);
  }

  uint64_t below(uint64_t limit) { return random_() % limit; }

  // Sends a frame and returns the frames that the board has sent in answer.
  std::vector<Bytes> ask(const Bytes& content) {
    const Bytes wire = framed(content);
    device_receive(&device_, wire.data(), wire.size());
    device_work(&device_);
    std::vector<Bytes> answers = unframed(device_.sent);
    device_.sent.clear();
    return answers;
  }

  Bytes mac(uint8_t direction, uint64_t counter, const Bytes& content) const {
    const bool is_long = content.size() > 55;
    Bytes data(9);
    data[0] = static_cast<uint8_t>(direction + (is_long ? 2 : 0));
    for (size_t i = 0; i < 8; ++i) data[1 + i] = static_cast<uint8_t>(counter >> (8 * i));
    Bytes hash(tmf::Poly1305::kBytes);
    tmf::Poly1305::hash(factor_.data(), content.data(), content.size(), hash.data());
    append(data, is_long ? hash : content);
    return hashed(session_, data, kMacBytes);
  }

  // A handshake, after which frames have the MACs of new keys.
  void begin() {
    earlier_ = taken_;
    taken_.clear();
    answer_.clear();
    const std::vector<Bytes> hello = ask(body(1, Hello()));
    require(hello.size() == 1, "no answer to Hello");
    Challenge challenge;
    for (uint8_t& byte : challenge.nonce) byte = static_cast<uint8_t>(random_());
    old_challenge_ = challenge_;
    challenge_ = body(2, challenge);
    const std::vector<Bytes> response = ask(challenge_);
    require(response.size() == 1 && response[0].size() == kFrameHeaderBytes + kNonce + kProof, "no answer to Challenge");
    Bytes said(hello[0].begin() + kFrameHeaderBytes, hello[0].end());
    said.insert(said.end(), challenge.nonce, challenge.nonce + kNonce);
    said.insert(said.end(), response[0].begin() + kFrameHeaderBytes, response[0].begin() + kFrameHeaderBytes + kNonce);
    const auto derived = [&](uint8_t label) {
      Bytes labelled = {label};
      append(labelled, said);
      return hashed(key_, labelled, kKeyBytes);
    };
    const Bytes proof = derived(4);
    require(std::equal(proof.begin(), proof.begin() + kProof, response[0].begin() + kFrameHeaderBytes + kNonce), "a wrong proof");
    Prove prove;
    const Bytes ours = derived(5);
    std::copy(ours.begin(), ours.begin() + kProof, prove.proof);
    const uint8_t sequence = static_cast<uint8_t>(below(256));
    old_prove_ = prove_;
    prove_ = body(sequence, prove);
    const std::vector<Bytes> proven = ask(prove_);
    require(proven.size() == 1 && proven[0][0] == (Prove::kType | kAnswerBit), "the proof was refused");
    session_ = derived(6);
    factor_ = derived(7);
    counter_ = sequence;
  }

  // A request of the honest host with the next counter and its MAC.
  Bytes request(Bytes content) {
    content[1] = static_cast<uint8_t>(++counter_);
    append(content, mac(0, counter_, content));
    return content;
  }

  // Any message that changes something when it is taken, or could.
  Bytes any_message() {
    switch (below(4)) {
      case 0: {
        Load load;
        load.token = ++token_;
        load.dtype = Dtype::kF16;
        // In half of all cases weights for more than a block of the MAC's hash.
        Bytes made(kFrameHeaderBytes + Load::kFixedSize + (below(2) != 0 ? 16 : 2 * below(400)));
        tmf::Writer out(made.data() + kFrameHeaderBytes, made.size() - kFrameHeaderBytes);
        load.write_head(out);
        made[0] = Load::kType;
        return made;
      }
      case 1: {
        Await await;
        await.token = token_;
        return body(0, await);
      }
      case 2: {
        Configure configure;
        configure.session = static_cast<uint32_t>(random_());
        configure.recipe.phases[0].count = 1;
        return body(0, configure);
      }
      default:
        return body(0, AskRefusals());
    }
  }

  std::vector<Bytes> send(const Bytes& sealed) {
    taken_.push_back(sealed);
    if (taken_.size() > 4'096) taken_.erase(taken_.begin(), taken_.begin() + 2'048);
    return ask(sealed);
  }

  // The one answer, whose MAC is right for the counter of the last request.
  Bytes sealed_answer(const std::vector<Bytes>& answers) {
    require(answers.size() == 1 && answers[0].size() >= kFrameHeaderBytes + kMacBytes, "an honest frame has no answer");
    answer_ = answers[0];
    Bytes content(answers[0].begin(), answers[0].end() - kMacBytes);
    const Bytes expected = mac(1, counter_, content);
    require(std::equal(expected.begin(), expected.end(), answers[0].end() - kMacBytes), "an answer with a wrong MAC");
    return content;
  }

  // One honest frame, and sometimes the same again, as after a lost answer.
  void advance() {
    const Bytes sealed = request(any_message());
    const Bytes answer = sealed_answer(send(sealed));
    ++report_.honest;
    if (below(4) != 0) return;
    require(sealed_answer(ask(sealed)) == answer, "a repeated frame has another answer");
    ++report_.repeated;
  }

  void attack() {
    const Kind kind = static_cast<Kind>(below(kKinds));
    Bytes frame;
    uint64_t counter = counter_;
    switch (kind) {
      case kForged: {
        frame.resize(kFrameHeaderBytes + below(64));
        for (uint8_t& byte : frame) byte = static_cast<uint8_t>(random_());
        if (below(2) != 0) frame[1] = static_cast<uint8_t>(counter_ + 1);
        if (frame[0] >= Challenge::kType && frame[0] <= Prove::kType) frame[0] = Load::kType;
        if (frame[0] == Hello::kType) frame[0] = Configure::kType;
        break;
      }
      case kFlipped: {  // what the host would send next, which the attacker has held back
        frame = request(any_message());
        counter_ = counter;
        const Bytes held_back = frame;
        for (uint64_t i = 0, flips = 1 + below(3); i < flips; ++i) {
          const uint64_t bit = below(8 * frame.size());
          frame[bit / 8] = static_cast<uint8_t>(frame[bit / 8] ^ 1u << bit % 8);
        }
        if (frame == held_back || is_open(frame[0])) return;
        break;
      }
      case kSpliced: {  // the same frame with its blocks in another order, fewer or more of them, or another frame before its MAC
        frame = request(any_message());
        counter_ = counter;
        const Bytes held_back = frame, mac_behind(frame.end() - kMacBytes, frame.end());
        frame.resize(frame.size() - kMacBytes);
        splice(frame);
        append(frame, mac_behind);
        if (frame == held_back || is_open(frame[0])) return;
        break;
      }
      case kReplayed: {
        if (taken_.size() < 2) return;
        frame = taken_[below(taken_.size() - 1)];
        break;
      }
      case kReordered: {  // the second of two frames comes first, and is the host's own
        const Bytes first = request(any_message()), second = request(any_message());
        sealed_answer(send(second));
        ++report_.honest;
        frame = first;
        break;
      }
      case kReflected: {  // an answer of the board, which has a MAC and the counter of the last request
        if (answer_.empty()) return;
        frame = answer_;
        break;
      }
      case kOfEarlierSession: {
        if (earlier_.empty()) return;
        frame = earlier_[below(earlier_.size())];
        break;
      }
      case kStripped: {
        frame = request(any_message());
        counter_ = counter;
        const uint64_t less = 1 + below(kMacBytes);
        frame.resize(frame.size() - less);
        break;
      }
      default: {
        if (below(2) != 0) {
          Prove prove;
          for (uint8_t& byte : prove.proof) byte = static_cast<uint8_t>(random_());
          frame = body(static_cast<uint8_t>(random_()), prove);
        } else if (!old_prove_.empty()) {  // a whole handshake again
          require(ask(old_challenge_).size() == 1, "no answer to Challenge");
          frame = old_prove_;
        } else {
          return;
        }
      }
    }
    ++report_.tried[kind];
    std::memcpy(before_.data(), &device_.dispatcher.learner(), before_.size());
    const std::vector<Bytes> answers = ask(frame);
    const bool refused = kind == kHandshake && answers.size() == 1 && answers[0][0] == kErrorType;
    const bool changed = std::memcmp(before_.data(), &device_.dispatcher.learner(), before_.size()) != 0;
    report_.accepted[kind] += changed || !(answers.empty() || refused);
  }

  // Changes a frame as the hash of long frames must notice.
  void splice(Bytes& frame) {
    constexpr size_t kBlock = tmf::Poly1305::kBytes;
    const auto block = [&] { return frame.begin() + static_cast<std::ptrdiff_t>(kBlock * below(frame.size() / kBlock)); };
    switch (frame.size() < kBlock ? 0 : below(4)) {
      case 0:
        frame.resize(frame.size() + 1 + below(kBlock));  // zeros
        break;
      case 1: {
        const auto one = block(), other = block();
        std::swap_ranges(one, one + kBlock, other);
        break;
      }
      case 2: {
        const auto out = block();
        frame.erase(out, out + kBlock);
        if (frame.size() < kFrameHeaderBytes) frame.resize(kFrameHeaderBytes);
        break;
      }
      default:
        if (!taken_.empty()) {
          frame = taken_[below(taken_.size())];
          frame.resize(frame.size() - kMacBytes);
        }
        frame[1] = static_cast<uint8_t>(counter_ + 1);
    }
  }

  static bool is_open(uint8_t type) { return type == Hello::kType || type == Challenge::kType || type == Prove::kType; }

  std::mt19937_64 random_;
  Report& report_;
  Device device_{};
  Bytes before_ = Bytes(sizeof(tmf::Learner));
  Bytes key_, session_, factor_, answer_, challenge_, prove_, old_challenge_, old_prove_;
  uint64_t counter_ = 0;
  uint32_t token_ = 0;
  std::vector<Bytes> taken_, earlier_;
};

}  // namespace

extern "C" {
// Attacks a board with `count` frames. Aborts if an honest frame has no right answer.
void attack(uint64_t seed, uint64_t count, Report* report) {
  *report = {};
  Attack(seed, *report).run(count);
}
}
