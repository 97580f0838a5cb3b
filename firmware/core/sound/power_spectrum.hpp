// The power spectrum of real numbers, by a fast Fourier transform in place, from + - * alone.
//
// Cooley and Tukey, Mathematics of Computation 19 (1965): radix 2, decimation in time; N real numbers are transformed as N/2
// complex ones (Press et al., Numerical Recipes, section 12.3). Every sum has one order, so all machines get the same bits.
#pragma once

#include <cstdint>

namespace tmf::sound {

// Replaces x[0 .. N-1] by its power spectrum: |X_k|^2 stands at x[2 k] for k < N/2, and that of k = N/2 at x[1].
// sine[i] = sin(2 pi i / N) for i < 3 N/4, so that cos(2 pi i / N) = sine[i + N/4] for i < N/2. N is a power of two, at least 8.
template <uint32_t N>
void power_spectrum(float (&x)[N], const float (&sine)[3 * N / 4]) {
  static_assert(N >= 8 && (N & (N - 1)) == 0, "a power of two");
  constexpr uint32_t kHalf = N / 2;  // complex numbers: number i is x[2 i] + x[2 i + 1] sqrt(-1)

  for (uint32_t i = 0, reversed = 0; i < kHalf; ++i) {  // to the order in which the bits of an index are reversed
    if (i < reversed) {
      for (uint32_t part = 0; part < 2; ++part) {
        const float other = x[2 * reversed + part];
        x[2 * reversed + part] = x[2 * i + part];
        x[2 * i + part] = other;
      }
    }
    uint32_t bit = kHalf / 2;
    for (; bit > 0 && (reversed & bit) != 0; bit /= 2) reversed ^= bit;
    reversed |= bit;
  }

  for (uint32_t apart = 1; apart < kHalf; apart *= 2) {
    for (uint32_t j = 0; j < apart; ++j) {
      const float im = -sine[j * (kHalf / apart)];
      const float re = sine[j * (kHalf / apart) + N / 4];
      for (uint32_t i = j; i < kHalf; i += 2 * apart) {
        float* const low = x + 2 * i;
        float* const high = low + 2 * apart;
        const float turned_re = high[0] * re - high[1] * im;
        const float turned_im = high[0] * im + high[1] * re;
        high[0] = low[0] - turned_re;
        high[1] = low[1] - turned_im;
        low[0] += turned_re;
        low[1] += turned_im;
      }
    }
  }

  // X_k = E_k + e^(-2 pi k sqrt(-1) / N) O_k, where E and O are the transforms of the even and of the odd numbers, and
  // X_(N/2 - k) is the conjugate of E_k - e^(...) O_k.
  const float first = x[0] + x[1];
  const float last = x[0] - x[1];
  for (uint32_t k = 1; k <= kHalf / 2; ++k) {
    float* const low = x + 2 * k;
    float* const high = x + 2 * (kHalf - k);
    const float even_re = 0.5f * (low[0] + high[0]);
    const float even_im = 0.5f * (low[1] - high[1]);
    const float odd_re = 0.5f * (low[1] + high[1]);
    const float odd_im = 0.5f * (high[0] - low[0]);
    const float im = -sine[k];
    const float re = sine[k + N / 4];
    const float turned_re = odd_re * re - odd_im * im;
    const float turned_im = odd_re * im + odd_im * re;
    const float sum_re = even_re + turned_re;
    const float sum_im = even_im + turned_im;
    const float rest_re = even_re - turned_re;
    const float rest_im = even_im - turned_im;
    low[0] = sum_re * sum_re + sum_im * sum_im;
    high[0] = rest_re * rest_re + rest_im * rest_im;
  }
  x[0] = first * first;
  x[1] = last * last;
}

}  // namespace tmf::sound
