// The JSON header of a safetensors file as it stands there: read event by event, so that a hostile header of
// 100 MB costs no more than its entries. Pure; inside core/ only (core/safetensors.cpp checks the offsets).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace kpool {

struct SafetensorsEntry {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// Errors: bad_input, without the file's name.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json);

}  // namespace kpool
