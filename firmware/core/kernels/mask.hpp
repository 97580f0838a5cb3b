// Masks saved for the backward pass: one bit per value, packed into words in the arena.
#pragma once

#include <cstdint>
#include <cstring>

namespace tmf::kernels {

// Word<T> has 32 bits, in each lane if T is a vector. To be specialised for any other T.
template <typename T>
struct WordOf;

template <>
struct WordOf<float> {
  using Type = uint32_t;
};

template <typename T>
using Word = typename WordOf<T>::Type;

// Bit t of the result is condition(t).
template <int kWidth, typename T, typename Condition>
Word<T> mask_where(const Condition& condition) {
  Word<T> bits{};
#pragma GCC unroll 8
  for (int t = 0; t < kWidth; ++t) bits |= condition(t) ? Word<T>{} + (uint32_t{1} << t) : Word<T>{};
  return bits;
}

// The value if bit t is set, else 0; lane by lane.
template <typename T>
T masked_value(const Word<T>& bits, int t, const T& value) {
  return (bits & (uint32_t{1} << t)) != 0 ? value : T{};
}

// Appends bits to the words that begin at `place`.
template <typename T>
class MaskWriter {
 public:
  explicit MaskWriter(T* place) : place_(place) {}

  // Appends bits [0, width) of `bits`; width is at most 32, all other bits must be 0.
  void put(const Word<T>& bits, int width) {
    word_ |= bits << used_;
    used_ += width;
    if (used_ < 32) return;
    flush();
    used_ -= 32;
    word_ = width == 32 && used_ == 0 ? Word<T>{} : bits >> (width - used_);
  }

  // Writes the last word. To be called once, after the last `put`.
  void finish() {
    if (used_ > 0) flush();
  }

 private:
  void flush() { std::memcpy(static_cast<void*>(place_++), &word_, sizeof word_); }

  T* place_;
  Word<T> word_{};
  int used_ = 0;
};

// Reads the bits in the order in which a MaskWriter has appended them.
template <typename T>
class MaskReader {
 public:
  explicit MaskReader(const T* place) : place_(place) {}

  // The next `width` bits, in bits [0, width) of the result. Its other bits are undefined.
  Word<T> take(int width) {
    Word<T> bits = word_;
    left_ -= width;
    if (left_ >= 0) {
      word_ >>= width;
      return bits;
    }
    std::memcpy(&word_, place_++, sizeof word_);
    bits |= word_ << (width + left_);
    word_ = width == 32 && left_ == -32 ? Word<T>{} : word_ >> -left_;
    left_ += 32;
    return bits;
  }

 private:
  const T* place_;
  Word<T> word_{};
  int left_ = 0;
};

}  // namespace tmf::kernels
