// A random-weight model of a few thousand parameters in GGUF, for tests that need a whole model but
// no knowledge in it. The same seed gives the same bytes.
#pragma once

#include <cstdint>
#include <string>

#include "core/gguf.hpp"

namespace kpool::testing {

struct TinyModel {
  std::string architecture = "llama";  ///< llama | qwen2 (with biases)
  std::int64_t layers = 2, hidden = 32, heads = 4, kv_heads = 2, ffn = 64, context = 512;
  bool tied = true;
  std::uint64_t seed = 1;
  GgmlType type = GgmlType::f32;  ///< of the matrices: f32, q4_0 or q8_0 (then hidden and ffn are multiples of 32)
};

/// The vocabulary is the 256 bytes and a few merges of English.
void write_tiny_model(const TinyModel& model, const std::string& path);

}  // namespace kpool::testing
