// Cuts text into the pieces inside which byte-level BPE merges. Which cuts belong to a model is named by
// tokenizer.ggml.pre of its GGUF file. Immutable but for match scratch: one object per thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/pattern.hpp"
#include "core/result.hpp"

namespace kpool {

class Pretokenizer {
 public:
  /// name: smollm | gpt-2 | default | llama-bpe | qwen2. Errors: bad_input.
  static Result<std::unique_ptr<Pretokenizer>> make(std::string_view name);

  /// The text brought into the form in which it is cut (NFC for qwen2).
  std::string normalise(std::string_view text) const;
  /// Calls take(piece) for each piece in order; the pieces join to the text.
  template <class Take>
  void cut(std::string_view text, Take&& take) const {
    cut_stage(text, 0, take);
  }
  /// A piece that is itself in the vocabulary is one token, whatever the merges say.
  bool ignores_merges() const { return ignores_merges_; }

 private:
  // Each stage cuts what the stages before have left: its matches, and the gaps between them.
  template <class Take>
  void cut_stage(std::string_view text, std::size_t stage, Take& take) const {
    if (text.empty()) return;
    if (stage == stages_.size()) return static_cast<void>(take(text));
    std::size_t begin = 0;
    while (begin < text.size()) {
      const auto match = stages_[stage].find(text, begin);
      if (!match) break;
      cut_stage(text.substr(begin, match->begin - begin), stage + 1, take);
      cut_stage(text.substr(match->begin, match->end - match->begin), stage + 1, take);
      begin = match->end;
    }
    cut_stage(text.substr(begin), stage + 1, take);
  }

  std::vector<Pattern> stages_;
  bool composes_ = false;
  bool ignores_merges_ = false;
};

}  // namespace kpool
