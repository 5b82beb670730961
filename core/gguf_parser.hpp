// What a GGUF file says about itself, checked: metadata and the places of its tensors. Pure; inside core/
// only (core/gguf.cpp owns the bytes that the tensors point into).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/gguf.hpp"
#include "core/result.hpp"

namespace kpool {

/// Integers and booleans are widened; arrays of reals are checked and dropped (nobody asks for them).
using GgufValue =
    std::variant<std::int64_t, double, std::string, std::vector<std::string>, std::vector<std::int64_t>>;

struct GgufDirectory {
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  ///< in the file's order
};

/// Errors: bad_input, without the file's name.
Result<GgufDirectory> parse_gguf(std::span<const std::byte> file);

}  // namespace kpool
