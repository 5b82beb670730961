// The safetensors format: u64 header length, JSON header, raw little-endian tensors.
// Values in, values out; no file access. Hostile input is refused (overlap, overflow, duplicate keys,
// header above 100 MB).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace kpool {

struct SafeTensor {
  std::string dtype;                ///< F32, F16, BF16, I64...
  std::vector<std::int64_t> shape;
  std::string_view data;            ///< into the caller's bytes
};
struct SafeTensors {
  std::map<std::string, SafeTensor> tensors;
  std::map<std::string, std::string> metadata;  ///< __metadata__
};

/// The views point into `bytes`. Errors: bad_input with what and where.
Result<SafeTensors> parse_safetensors(std::string_view bytes);
/// The same input gives the same bytes (keys in order).
std::string write_safetensors(const SafeTensors& contents);

}  // namespace kpool
