// The empty version of authentication, for firmware with run.security = "none". With "authenticated", a generated header of
// this name replaces it and includes authentication/authentication.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "protocol.hpp"

namespace tmf {

// The interface that authentication/authentication.hpp describes; takes neither memory nor time.
class Authentication {
 public:
  static constexpr size_t kMacBytes = 0;

  enum class Verdict : uint8_t { kTaken, kDropped, kRefused };

  static Verdict admit(const uint8_t*, size_t&) { return Verdict::kTaken; }
  static size_t seal(uint8_t, uint8_t*, size_t size) { return size; }
  template <typename SayHello>
  static Status answer(const uint8_t*, size_t, SayHello, Writer&, bool&) {
    return Status::kUnknownType;
  }
};

}  // namespace tmf
