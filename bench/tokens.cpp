// Token ids of JSON Lines: {"text": ...} in, {"ids": [...]} out, or {"pieces": [...]} for the pieces that a
// pre-tokenizer cuts. For bench/parity/tokens.py.
#include <iostream>
#include <nlohmann/json.hpp>

#include "core/pretokenizer.hpp"
#include "core/tokenizer.hpp"

using namespace kpool;

namespace {

Result<std::unique_ptr<Tokenizer>> tokenizer_of(const std::string& kind, const std::string& path) {
  if (kind == "wordpiece") return make_wordpiece(path);
  const auto file = Gguf::open(path);
  if (!file) return file.error();
  return make_bpe(**file);
}

template <class Answer>
void answer_lines(Answer&& answer) {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << answer(nlohmann::json::parse(line).at("text").get<std::string>()).dump() << "\n";
}

Status run(const std::string& kind, const std::string& argument) {
  if (kind == "cut") {
    const auto pretokenizer = Pretokenizer::make(argument);
    if (!pretokenizer) return pretokenizer.error();
    answer_lines([&](const std::string& text) {
      std::vector<std::string> pieces;
      const auto normal = (*pretokenizer)->normalise(text);
      (*pretokenizer)->cut(normal, [&](std::string_view piece) { pieces.emplace_back(piece); });
      return nlohmann::json{{"pieces", pieces}};
    });
    return Done{};
  }
  const auto tokenizer = tokenizer_of(kind, argument);
  if (!tokenizer) return tokenizer.error();
  answer_lines([&](const std::string& text) { return nlohmann::json{{"ids", (*tokenizer)->encode(text)}}; });
  return Done{};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: bench_tokens bpe MODEL.gguf | wordpiece VOCAB.txt | cut PRETOKENIZER\n";
    return exit_code(Fault::usage);
  }
  const auto status = run(argv[1], argv[2]);
  if (status) return 0;
  std::cerr << status.error().message << "\n";
  return exit_code(status.error().fault);
}
