#include <utf8proc.h>

#include <algorithm>
#include <cctype>
#include <unordered_map>

#include "core/mapped_file.hpp"
#include "core/tokenizer.hpp"
#include "core/unicode.hpp"
#include "core/unicode8.hpp"

namespace kpool {
namespace {

constexpr std::size_t kWordCharactersMax = 100;  // longer words are unknown, as BERT has it
constexpr std::size_t kVocabularyBytesMax = std::size_t{64} << 20;
constexpr std::string_view kContinuation = "##";

bool is_dropped(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  if (c == 0 || c == 0xfffd) return true;
  return unicode8_kind(c) == CharacterKind::control;
}

// The blocks of BERT's "CJK characters": each is a word. (The fifth begins at 2B920 in the reference.)
bool is_chinese(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
         (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return std::ispunct(static_cast<int>(c)) != 0;
  return unicode8_kind(c) == CharacterKind::punctuation;
}

// Clean text, space around Chinese characters, no accents, lower case.
std::u32string normalise(std::string_view text) {
  std::u32string clean;
  for (const char32_t c : decode_utf8(text)) {
    if (is_dropped(c)) continue;
    if (is_chinese(c)) clean.append({U' ', c, U' '});
    else clean.push_back(is_white_space(c) ? U' ' : c);
  }
  std::u32string out;
  for (const char32_t c : normalise_nfd(clean)) {
    if (unicode8_kind(c) == CharacterKind::mark) continue;
    out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
  return out;
}

struct Hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Ids = std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>>;

class Wordpiece final : public Tokenizer {
 public:
  Wordpiece(std::vector<std::string> tokens, std::int32_t unknown);
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::size_t size() const override { return tokens_.size(); }

 private:
  void encode_word(std::u32string_view word, std::vector<std::int32_t>& out) const;
  std::int32_t longest(std::u32string_view word, std::size_t begin, std::size_t& end) const;

  std::vector<std::string> tokens_;
  Ids whole_, continued_;  // continued_: without the "##"
  std::int32_t unknown_;
};

Wordpiece::Wordpiece(std::vector<std::string> tokens, std::int32_t unknown)
    : tokens_(std::move(tokens)), unknown_(unknown) {
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const std::string& token = tokens_[id];
    whole_.emplace(token, static_cast<std::int32_t>(id));
    if (token.starts_with(kContinuation))
      continued_.emplace(token.substr(kContinuation.size()), static_cast<std::int32_t>(id));
  }
}

std::vector<std::int32_t> Wordpiece::encode(std::string_view text) const {
  KPOOL_ASSERT(is_utf8(text));
  std::vector<std::int32_t> ids;
  const std::u32string normal = normalise(text);
  const std::u32string_view view = normal;
  std::size_t begin = 0;  // of the word that is being read
  for (std::size_t i = 0; i <= view.size(); ++i) {
    const bool space = i == view.size() || is_white_space(view[i]);
    const bool punctuation = !space && is_punctuation(view[i]);
    if (!space && !punctuation) continue;
    encode_word(view.substr(begin, i - begin), ids);
    if (punctuation) encode_word(view.substr(i, 1), ids);
    begin = i + 1;
  }
  return ids;
}

void Wordpiece::encode_word(std::u32string_view word, std::vector<std::int32_t>& out) const {
  if (word.empty()) return;
  if (word.size() > kWordCharactersMax) return out.push_back(unknown_);
  const std::size_t size_before = out.size();
  for (std::size_t begin = 0, end = 0; begin < word.size(); begin = end) {
    const std::int32_t id = longest(word, begin, end);
    if (id < 0) {
      out.resize(size_before);
      return out.push_back(unknown_);
    }
    out.push_back(id);
  }
}

std::int32_t Wordpiece::longest(std::u32string_view word, std::size_t begin, std::size_t& end) const {
  const std::string text = encode_utf8(word.substr(begin));
  const Ids& ids = begin == 0 ? whole_ : continued_;
  std::size_t bytes = text.size();
  for (end = word.size(); end > begin; --end) {
    const auto found = ids.find(std::string_view(text).substr(0, bytes));
    if (found != ids.end()) return found->second;
    do --bytes;
    while ((text[bytes] & 0xc0) == 0x80);
  }
  return -1;
}

std::string Wordpiece::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    KPOOL_ASSERT(id >= 0 && static_cast<std::size_t>(id) < tokens_.size());
    std::string_view token = tokens_[id];
    const bool continues = !text.empty() && token.starts_with(kContinuation);
    if (continues) token.remove_prefix(kContinuation.size());
    else if (!text.empty()) text.push_back(' ');
    text += token;
  }
  return text;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
  }
  return lines;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_wordpiece(const std::string& vocab_path) {
  const auto file = MappedFile::open(vocab_path);
  if (!file) return file.error();
  const auto bytes = (*file)->bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() > kVocabularyBytesMax || !is_utf8(text))
    return Error{Fault::bad_input, vocab_path + ": is no vocabulary (64 MiB of valid UTF-8 at most)"};
  auto tokens = lines_of(text);
  const auto unknown = std::find(tokens.begin(), tokens.end(), "[UNK]") - tokens.begin();
  if (unknown == static_cast<std::ptrdiff_t>(tokens.size()))
    return Error{Fault::bad_input, vocab_path + ": the vocabulary has no [UNK]"};
  return std::unique_ptr<Tokenizer>(std::make_unique<Wordpiece>(std::move(tokens), static_cast<std::int32_t>(unknown)));
}

}  // namespace kpool
