// Text to token ids. Immutable after construction, but for scratch: one object per thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/gguf.hpp"
#include "core/result.hpp"

namespace kpool {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// text: valid UTF-8, any length, at most linear-logarithmic time. No special token is added, and
  /// none is recognised in the text: a record cannot forge one.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  /// Bytes; of a part of a text they need not be whole characters. ids: within the vocabulary.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  virtual std::size_t size() const = 0;  ///< vocabulary
};

/// Byte-level BPE from GGUF metadata (tokenizer.ggml.tokens, .merges, .pre). A byte that has no token is
/// dropped, as the reference does (SmolLM2 lacks a few control characters). Errors: bad_input.
Result<std::unique_ptr<Tokenizer>> make_bpe(const Gguf& file);

/// BERT WordPiece, uncased, from a vocab.txt: normalisation (control characters, CJK spacing, NFD
/// without accents, lower case), then greedy longest match. Errors: missing, bad_input.
Result<std::unique_ptr<Tokenizer>> make_wordpiece(const std::string& vocab_path);

}  // namespace kpool
