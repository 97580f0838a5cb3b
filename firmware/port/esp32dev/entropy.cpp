// The entropy of an ESP32: its hardware generator gives a seed once, from which all further bytes are computed.
//
// The generator is random only while the radio is on, or while the SAR ADC feeds it as here (ESP-IDF Programming Guide, Random
// Number Generation). That takes ADC and I2S0 away for a moment: ask for the first bytes before a sensor uses them. It must not be
// done while the radio is on, as it is in firmware for a network from the start.
#include <entropy.hpp>

#include <crypto/blake2s.hpp>

#include <bootloader_random.h>
#include <esp_system.h>

namespace {

uint8_t seed[tmf::Blake2s::kMaxKeyBytes];
uint32_t given = 0;  // blocks of random bytes so far; 0: no seed yet

}  // namespace

bool tmf::port::entropy(uint8_t* to, size_t size) {
  if (given == 0) {
#if __has_include(<network_facts.hpp>)
    esp_fill_random(seed, sizeof seed);
#else
    bootloader_random_enable();
    esp_fill_random(seed, sizeof seed);
    bootloader_random_disable();
#endif
  }
  while (size > 0) {
    if (++given == 0) return false;  // 128 GiB were given
    uint8_t block[Blake2s::kMaxDigestBytes];
    Blake2s hash(sizeof block, seed, sizeof seed);
    hash.add(&given, sizeof given);
    hash.finish(block);
    const size_t part = sizeof block < size ? sizeof block : size;
    std::memcpy(to, block, part);
    to += part;
    size -= part;
  }
  return true;
}
