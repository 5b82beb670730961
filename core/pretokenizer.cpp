#include "core/pretokenizer.hpp"

#include "core/unicode.hpp"

// Perl's \s has U+180E as well in PCRE2; the tokenizers mean the Unicode property White_Space.
#define SPACE "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

namespace kpool {
namespace {

// Radford et al. 2019: contractions, then runs of letters, digits or others with the space before them; of a
// run of white space the last character stays with what follows.
constexpr const char* kGpt2 =
    "'(?:[stmd]|re|ve|ll)"
    "| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

constexpr const char* kDigit = "\\p{N}";

// Llama 3 and Qwen 2 differ only in how many digits one piece may have.
#define LETTERS_THEN(DIGITS)                                                                   \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" DIGITS                           \
  "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
constexpr const char* kLlama = LETTERS_THEN("\\p{N}{1,3}");
constexpr const char* kQwen2 = LETTERS_THEN("\\p{N}");

}  // namespace

Result<std::unique_ptr<Pretokenizer>> Pretokenizer::make(std::string_view name) {
  auto made = std::make_unique<Pretokenizer>();
  if (name == "smollm") {
    made->stages_.emplace_back(kDigit);
    made->stages_.emplace_back(kGpt2);
  } else if (name == "gpt-2" || name == "default") {
    made->stages_.emplace_back(kGpt2);
  } else if (name == "llama-bpe") {
    made->stages_.emplace_back(kLlama);
    made->ignores_merges_ = true;
  } else if (name == "qwen2") {
    made->stages_.emplace_back(kQwen2);
    made->composes_ = true;
  } else {
    return Error{Fault::bad_input, "the pre-tokenizer '" + std::string(name) +
                                       "' is not supported (smollm, gpt-2, default, llama-bpe and qwen2 are)"};
  }
  return made;
}

std::string Pretokenizer::normalise(std::string_view text) const {
  return composes_ ? encode_utf8(normalise_nfc(decode_utf8(text))) : std::string(text);
}

}  // namespace kpool
