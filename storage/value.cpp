#include "storage/value.hpp"

#include <sodium.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace kpool {
namespace {

constexpr char value_format = 1;

const unsigned char* octets(std::string_view bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

}  // namespace

ValueHeader value_header(std::string_view key, std::string_view value) {
  const std::uint64_t key_bytes = key.size();
  std::array<char, 8> length;
  std::memcpy(length.data(), &key_bytes, length.size());

  ValueHeader header{value_format};
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, value_header_bytes - 1);
  crypto_generichash_update(&state, octets({length.data(), length.size()}), length.size());
  crypto_generichash_update(&state, octets(key), key.size());
  crypto_generichash_update(&state, octets(value), value.size());
  crypto_generichash_final(&state, reinterpret_cast<unsigned char*>(header.data()) + 1, value_header_bytes - 1);
  return header;
}

Result<std::string> open_value(std::string_view key, std::string_view stored, const std::string& where) {
  const auto damaged = [&](const std::string& how) {
    return Error{Fault::bad_input, "store " + where + ": the value of \"" + std::string(key) + "\" " + how};
  };
  if (stored.size() < value_header_bytes) return damaged("is shorter than its header");
  if (stored[0] != value_format)
    return damaged("has format " + std::to_string(static_cast<unsigned char>(stored[0])) + ", this program reads 1");
  const std::string_view value = stored.substr(value_header_bytes);
  const ValueHeader expected = value_header(key, value);
  if (!std::equal(expected.begin(), expected.end(), stored.begin())) return damaged("fails its checksum");
  return std::string(value);
}

}  // namespace kpool
