#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <unordered_map>

#include "core/pretokenizer.hpp"
#include "core/tokenizer.hpp"
#include "core/unicode.hpp"

namespace kpool {
namespace {

constexpr std::int64_t kNormalToken = 1;  // tokenizer.ggml.token_type; others are never read out of text

// Byte-level BPE writes every byte as one printable character, so that a vocabulary is text.
std::array<char32_t, 256> byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

struct Merge {
  std::int32_t rank = 0, id = 0;
};

struct Vocabulary {
  std::vector<std::string> tokens;                       // id -> text in the byte alphabet
  std::unordered_map<std::string, std::int32_t> ids;     // normal tokens only
  std::unordered_map<std::uint64_t, Merge> merges;       // (left, right) -> result
  std::array<std::int32_t, 256> bytes{};                 // -1: no token; the byte is dropped, as the reference does
};

class Bpe final : public Tokenizer {
 public:
  Bpe(Vocabulary vocabulary, std::unique_ptr<Pretokenizer> pretokenizer);
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::size_t size() const override { return vocabulary_.tokens.size(); }

 private:
  struct Symbol {
    std::int32_t id = -1;  // -1: merged into the one before
    std::int32_t previous = -1, next = -1;
  };
  struct Candidate {
    std::int32_t rank = 0, position = 0, merged = 0;
    std::uint64_t pair = 0;  // as it was when the candidate was found
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  // Scratch of one piece; kept so that its memory is.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  };

  void encode_piece(std::string_view piece, std::vector<std::int32_t>& out) const;
  void consider(std::int32_t position) const;
  void merge_all() const;

  Vocabulary vocabulary_;
  std::unique_ptr<Pretokenizer> pretokenizer_;
  std::array<char32_t, 256> alphabet_ = byte_alphabet();
  std::unordered_map<char32_t, char> byte_of_;
  mutable Scratch scratch_;
};

Bpe::Bpe(Vocabulary vocabulary, std::unique_ptr<Pretokenizer> pretokenizer)
    : vocabulary_(std::move(vocabulary)), pretokenizer_(std::move(pretokenizer)) {
  for (int byte = 0; byte < 256; ++byte) byte_of_[alphabet_[byte]] = static_cast<char>(byte);
}

std::vector<std::int32_t> Bpe::encode(std::string_view text) const {
  KPOOL_ASSERT(text.size() <= INT32_MAX && is_utf8(text));
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4);
  const std::string normal = pretokenizer_->normalise(text);
  pretokenizer_->cut(normal, [&](std::string_view piece) { encode_piece(piece, ids); });
  return ids;
}

void Bpe::encode_piece(std::string_view piece, std::vector<std::int32_t>& out) const {
  if (pretokenizer_->ignores_merges()) {
    std::string written;
    for (const char byte : piece) append_utf8(written, alphabet_[static_cast<unsigned char>(byte)]);
    const auto whole = vocabulary_.ids.find(written);
    if (whole != vocabulary_.ids.end()) return out.push_back(whole->second);
  }
  auto& symbols = scratch_.symbols;
  symbols.clear();
  for (const char byte : piece) {
    const std::int32_t id = vocabulary_.bytes[static_cast<unsigned char>(byte)];
    const auto position = static_cast<std::int32_t>(symbols.size());
    if (id >= 0) symbols.push_back({id, position - 1, position + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  merge_all();
  for (const auto& symbol : symbols)
    if (symbol.id >= 0) out.push_back(symbol.id);
}

void Bpe::consider(std::int32_t position) const {
  const auto& symbols = scratch_.symbols;
  if (position < 0 || symbols[position].next < 0) return;
  const auto pair = pair_key(symbols[position].id, symbols[symbols[position].next].id);
  const auto merge = vocabulary_.merges.find(pair);
  if (merge != vocabulary_.merges.end())
    scratch_.candidates.push({merge->second.rank, position, merge->second.id, pair});
}

// The lowest rank first, of equal ones the leftmost; a candidate whose symbols have changed since is stale.
void Bpe::merge_all() const {
  auto& symbols = scratch_.symbols;
  auto& candidates = scratch_.candidates;
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<std::int32_t>(i));
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.position];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    if (pair_key(left.id, right.id) != best.pair) continue;
    left.id = best.merged;
    right.id = -1;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = best.position;
    consider(left.previous);
    consider(best.position);
  }
}

std::string Bpe::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    KPOOL_ASSERT(id >= 0 && static_cast<std::size_t>(id) < vocabulary_.tokens.size());
    for (const char32_t character : decode_utf8(vocabulary_.tokens[id])) {
      const auto byte = byte_of_.find(character);
      if (byte == byte_of_.end()) append_utf8(text, character);
      else text.push_back(byte->second);
    }
  }
  return text;
}

Status read_tokens(const Gguf& file, Vocabulary& out) {
  out.tokens = file.texts("tokenizer.ggml.tokens");
  if (out.tokens.empty() || out.tokens.size() > INT32_MAX)
    return Error{Fault::bad_input, file.path() + ": tokenizer.ggml.tokens is missing"};
  const auto types = file.integers("tokenizer.ggml.token_type");
  if (!types.empty() && types.size() != out.tokens.size())
    return Error{Fault::bad_input, file.path() + ": tokenizer.ggml.token_type is not as long as the vocabulary"};
  for (std::size_t id = 0; id < out.tokens.size(); ++id) {
    if (!is_utf8(out.tokens[id]))
      return Error{Fault::bad_input, file.path() + ": token " + std::to_string(id) + " is not valid UTF-8"};
    if (types.empty() || types[id] == kNormalToken) out.ids.emplace(out.tokens[id], static_cast<std::int32_t>(id));
  }
  const auto alphabet = byte_alphabet();
  for (int byte = 0; byte < 256; ++byte) {
    std::string written;
    append_utf8(written, alphabet[byte]);
    const auto found = out.ids.find(written);
    out.bytes[byte] = found == out.ids.end() ? -1 : found->second;
  }
  return Done{};
}

Status read_merges(const Gguf& file, Vocabulary& out) {
  const auto merges = file.texts("tokenizer.ggml.merges");
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& line = merges[rank];
    const auto space = line.find(' ');
    const auto left = out.ids.find(line.substr(0, space));
    const auto right = space == std::string::npos ? out.ids.end() : out.ids.find(line.substr(space + 1));
    if (left == out.ids.end() || right == out.ids.end())
      return Error{Fault::bad_input, file.path() + ": merge " + std::to_string(rank) + " is not of two known tokens"};
    const auto merged = out.ids.find(left->first + right->first);
    if (merged == out.ids.end())
      return Error{Fault::bad_input, file.path() + ": merge " + std::to_string(rank) + " makes no known token"};
    const Merge merge{static_cast<std::int32_t>(rank), merged->second};
    out.merges.insert_or_assign(pair_key(left->second, right->second), merge);
  }
  return Done{};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_bpe(const Gguf& file) {
  const auto model = file.text("tokenizer.ggml.model");
  if (model != "gpt2")
    return Error{Fault::bad_input, file.path() + ": the tokenizer is not a byte-level BPE (tokenizer.ggml.model is '" +
                                       model.value_or("") + "')"};
  auto pretokenizer = Pretokenizer::make(file.text("tokenizer.ggml.pre").value_or("default"));
  if (!pretokenizer) return Error{pretokenizer.error().fault, file.path() + ": " + pretokenizer.error().message};
  Vocabulary vocabulary;
  if (auto status = read_tokens(file, vocabulary); !status) return status.error();
  if (auto status = read_merges(file, vocabulary); !status) return status.error();
  return std::unique_ptr<Tokenizer>(std::make_unique<Bpe>(std::move(vocabulary), *std::move(pretokenizer)));
}

}  // namespace kpool
