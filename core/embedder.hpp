// The part of an encoder that turns one text into one vector. Inside core/; owned by its encoder,
// used on its thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base.hpp"
#include "core/result.hpp"

namespace kpool {

class Embedder {
 public:
  virtual ~Embedder() = default;
  /// text and its token ids under the base's tokenizer (at least one); each embedder uses one of them.
  virtual std::vector<float> embed(std::string_view text, std::span<const std::int32_t> tokens) const = 0;
  virtual std::size_t width() const = 0;
};

/// The base's hidden state after its first `layers` layers, each token's scaled to RMS 1, meaned over the first
/// tokens_max tokens but for the very first.
std::unique_ptr<Embedder> make_base_embedder(std::shared_ptr<const Base> base, std::int64_t layers,
                                             std::uint32_t tokens_max);

/// A BERT sentence encoder such as all-MiniLM-L6-v2 in a directory with model.safetensors, config.json
/// and vocab.txt: mean over tokens, scaled to length 1. Errors: missing, bad_input.
Result<std::unique_ptr<Embedder>> make_minilm_embedder(const std::string& directory, std::uint32_t tokens_max);

}  // namespace kpool
