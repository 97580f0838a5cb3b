// Yes or no, a bit each, packed into numbers of the arena: all that a pool's way back needs of its input.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf::kernels {

// 32 bits in the place of a T: where it has lanes, 32 in each. Whoever runs kernels over another T specialises this.
template <typename T>
struct WordOf;

template <>
struct WordOf<float> {
  using Type = uint32_t;
};

template <typename T>
using Word = typename WordOf<T>::Type;

// Bit t of the word is the answer for value t.
template <int kWidth, typename T, typename Answer>
Word<T> answers(const Answer& answer) {
  Word<T> bits{};
#pragma GCC unroll 8
  for (int t = 0; t < kWidth; ++t) bits |= answer(t) ? Word<T>{} + (uint32_t{1} << t) : Word<T>{};
  return bits;
}

// The value where its bit is set, otherwise 0.
template <typename T>
T where(const Word<T>& bits, int t, const T& value) {
  return (bits & (uint32_t{1} << t)) != 0 ? value : T{};
}

// Puts bits into numbers from a place on, one after the other.
template <typename T>
class BitWriter {
 public:
  explicit BitWriter(T* place) : place_(place) {}

  // Those of bits [0, width), fewer than 32; the others are 0.
  void put(const Word<T>& bits, int width) {
    word_ |= bits << used_;
    used_ += width;
    if (used_ < 32) return;
    flush();
    used_ -= 32;
    word_ = bits >> (width - used_);
  }

  // To be called once, after the last bits.
  void finish() {
    if (used_ > 0) flush();
  }

 private:
  void flush() { std::memcpy(static_cast<void*>(place_++), &word_, sizeof word_); }

  T* place_;
  Word<T> word_{};
  int used_ = 0;
};

// Takes them out in the same order.
template <typename T>
class BitReader {
 public:
  explicit BitReader(const T* place) : place_(place) {}

  // In bits [0, width); those above are anything.
  Word<T> take(int width) {
    Word<T> bits = word_;
    left_ -= width;
    if (left_ >= 0) {
      word_ >>= width;
      return bits;
    }
    std::memcpy(&word_, place_++, sizeof word_);
    bits |= word_ << (width + left_);
    word_ >>= -left_;
    left_ += 32;
    return bits;
  }

 private:
  const T* place_;
  Word<T> word_{};
  int left_ = 0;
};

}  // namespace tmf::kernels
