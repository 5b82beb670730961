// The part of an encoder that turns texts into vectors. Inside core/; owned by its encoder,
// used on its thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base.hpp"
#include "core/encoder.hpp"
#include "core/record.hpp"
#include "core/result.hpp"

namespace kpool {

/// A text and its token ids under the base's tokenizer (at least one); each embedder uses one of them.
struct TokenizedText {
  std::string_view text;
  std::span<const std::int32_t> tokens;
  std::size_t hidden_tokens = 0;  ///< so many leading tokens' hidden states are asked for, where the base embeds
};

struct Embedded {
  std::vector<float> embedding;  ///< (width)
  HiddenStates hidden;           ///< of hidden_tokens tokens, or none
};

class Embedder {
 public:
  virtual ~Embedder() = default;
  /// One for each text, the same, bit for bit, whichever others share the call.
  virtual std::vector<Embedded> embed(std::span<const TokenizedText> texts) const = 0;
  virtual std::size_t width() const = 0;
};

/// Rows of short texts that are embedded together: many read each weight once. 0: each text by itself, where a row may
/// come out otherwise beside others (rows_are_alike in core/gemm.hpp).
std::int64_t pack_rows(const Base::Weights& weights);

/// Products with the frozen matrices: in the base's precision; in 8-bit integers, rounded as training's forward pass
/// rounds them; in those that are kept (Int8Layer), where the base is dense.
enum class Products { full, int8, kept };
/// What EncoderOptions::products comes to. dense: whether the base is, or will be.
Products products_of(const EncoderOptions& options, const Base::Weights& weights, bool dense);

/// The base's hidden state after its first `layers` layers, each token's scaled to RMS 1, meaned over the first
/// tokens_max tokens but for the very first, the i-th with weight i: later ones have seen more of the text (Muennighoff
/// 2022, SGPT, arXiv 2202.08904, eq. 2).
std::unique_ptr<Embedder> make_base_embedder(std::shared_ptr<const Base> base, std::int64_t layers,
                                             std::uint32_t tokens_max, Products products);

/// A BERT sentence encoder such as all-MiniLM-L6-v2 in a directory with model.safetensors, config.json
/// and vocab.txt: mean over tokens, scaled to length 1. Errors: missing, bad_input.
Result<std::unique_ptr<Embedder>> make_minilm_embedder(const std::string& directory, std::uint32_t tokens_max);

}  // namespace kpool
