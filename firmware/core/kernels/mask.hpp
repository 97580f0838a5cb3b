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

// Whether an output of a ReLU, which is never -0 or NaN, is above 0; a processor compares its bits in fewer instructions.
template <typename T>
auto above_zero(const T& number) -> decltype(number > T{}) {
  return number > T{};
}
inline bool above_zero(const float& number) {
  int32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits > 0;
}

// Sets those of eight numbers to 0 whose bit is not set: a single number is stored only where it becomes 0.
template <typename T>
void keep_eight(const Word<T>& bits, T* numbers) {
#pragma GCC unroll 8
  for (int t = 0; t < 8; ++t) numbers[t] = masked_value(bits, t, numbers[t]);
}
inline void keep_eight(uint32_t bits, float* numbers) {
#pragma GCC unroll 8
  for (int t = 0; t < 8; ++t) {
    if ((bits & uint32_t{1} << t) == 0) numbers[t] = 0.0f;
  }
}

// Saves, one bit for each, which of kSize outputs of a ReLU are above 0.
template <int kSize, typename T>
void save_positive(const T* x, T* mask) {
  for (int begin = 0; begin < kSize; begin += 32, ++mask) {
    const int count = kSize - begin < 32 ? kSize - begin : 32;
    Word<T> bits{};
    int i = 0;
    for (; i + 8 <= count; i += 8, x += 8) bits |= mask_where<8, T>([&](int t) { return above_zero(x[t]); }) << i;
    for (; i < count; ++i, ++x) bits |= mask_where<1, T>([&](int t) { return above_zero(x[t]); }) << i;
    std::memcpy(static_cast<void*>(mask), &bits, sizeof bits);
  }
}

// Sets those of kSize gradients to 0 whose bit is not set.
template <int kSize, typename T>
void keep_positive(const T* mask, T* dx) {
  for (int begin = 0; begin < kSize; begin += 32, ++mask) {
    const int count = kSize - begin < 32 ? kSize - begin : 32;
    Word<T> bits;
    std::memcpy(&bits, mask, sizeof bits);
    int i = 0;
    for (; i + 8 <= count; i += 8, dx += 8, bits >>= 8) keep_eight(bits, dx);
    for (; i < count; ++i, ++dx, bits >>= 1) *dx = masked_value(bits, 0, *dx);
  }
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
