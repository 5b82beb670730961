// SHA-256 in hexadecimal, as sha256sum prints it.
#pragma once

#include <string>
#include <string_view>

#include <sodium.h>

namespace kpool {

class Digest {
 public:
  Digest() { crypto_hash_sha256_init(&state_); }
  void add(std::string_view bytes) {
    crypto_hash_sha256_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  std::string finish() {
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&state_, sum);
    char hex[2 * sizeof sum + 1];
    return sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
  }

 private:
  crypto_hash_sha256_state state_;
};

}  // namespace kpool
