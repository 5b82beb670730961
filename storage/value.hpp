// How one value of the store lies on disk: a header with a format number and a keyed-by-name BLAKE2b
// checksum, then the value. Values in, values out; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace kpool {

/// u8 format, then BLAKE2b-256 over (u64 length of the key, key, value). The key is in the checksum, so
/// a value that stands under another key's name is refused too.
constexpr std::size_t value_header_bytes = 1 + 32;
using ValueHeader = std::array<char, value_header_bytes>;

ValueHeader value_header(std::string_view key, std::string_view value);

/// Checks what was stored under `key` and strips the header. `where` names the store.
/// Errors: bad_input (too short, a newer format, or the checksum does not match).
Result<std::string> open_value(std::string_view key, std::string_view stored, const std::string& where);

}  // namespace kpool
