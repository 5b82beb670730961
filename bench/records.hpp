// Records to encode and to train on, for programs that measure both.
#pragma once

#include <random>

#include "bench/common.hpp"
#include "core/encoder.hpp"
#include "core/learner.hpp"

namespace kpool {

constexpr std::size_t tokens_per_step = 512;

/// Sentences of made-up words, each domain with a vocabulary of its own.
class Text {
 public:
  explicit Text(std::uint32_t domain) : random_(domain) {
    constexpr const char* syllables[] = {"ba", "con", "der", "el", "fi", "gran", "ho", "in", "ju", "kel", "lo", "mar",
                                         "ne", "or", "pre", "qui", "ra", "sta", "tion", "un", "ver", "wi", "xe", "zo"};
    for (std::string& word : words_)
      for (std::size_t i = 0, count = 1 + random_() % 3; i < count; ++i) word += syllables[random_() % 24];
  }
  /// So many tokens, or, where none of its beginnings has that many, a few less.
  std::string record(const Tokenizer& tokenizer, std::size_t tokens) {
    std::string text;
    while (tokenizer.encode(text).size() < tokens)
      text += words_[random_() % words_.size()] + (random_() % 9 == 0 ? ". " : " ");
    while (tokenizer.encode(text).size() > tokens) text.pop_back();
    return text;
  }

 private:
  std::mt19937 random_;
  std::vector<std::string> words_ = std::vector<std::string>(300);
};

inline std::vector<EncodedRecord> encode(Encoder& encoder, const std::vector<std::string>& texts) {
  std::vector<Record> records;
  for (const std::string& text : texts) records.push_back({{0, records.size() + 1}, 0, text});
  std::vector<EncodedRecord> encoded;
  for (Encoded& each : encoder.encode(std::move(records))) encoded.push_back(std::get<EncodedRecord>(std::move(each)));
  return encoded;
}

/// A learner of one open slot that measures nothing.
inline std::unique_ptr<Learner> one_slot(const std::shared_ptr<const Base>& base, std::uint32_t threads,
                                         std::uint32_t top_layers = 0) {
  LearnerOptions options;
  options.slots = 1;
  options.threads = threads;
  options.top_layers = top_layers;
  options.gain_every = options.sharpness_every = 0;
  auto learner = make_learner(options, base);
  learner->open({0, 1});
  return learner;
}

/// The first records of the files, in turns, until there are so many tokens or one of the files has ended.
inline std::vector<std::string> first_records(std::span<char*> files, const Tokenizer& tokenizer, std::size_t tokens) {
  std::vector<std::ifstream> open;
  for (const char* file : files) {
    open.emplace_back(file);
    if (open.back()) continue;
    std::cerr << file << " cannot be read.\n";
    std::exit(exit_code(Fault::missing));
  }
  std::vector<std::string> texts;
  std::string line;
  for (std::size_t i = 0, used = 0; used < tokens && std::getline(open[i % open.size()], line); ++i) {
    texts.push_back(nlohmann::json::parse(line).at("text").get<std::string>());
    used += tokenizer.encode(texts.back()).size();
  }
  return texts;
}

}  // namespace kpool
