#include "core/encoder.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/batch.hpp"
#include "core/embedder.hpp"
#include "core/llama.hpp"
#include "core/safetensors.hpp"
#include "core/weights.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;
using kpool::testing::tiny_base;
using kpool::testing::TinyModel;
using kpool::testing::TemporaryDirectory;

namespace {

std::unique_ptr<Encoder> encoder(const EncoderOptions& options, std::shared_ptr<const Base> base) {
  auto made = make_encoder(options, std::move(base));
  if (!made) FAIL(made.error().message);
  return std::move(*made);
}

Refusal refusal_of(Encoder& encoder, const std::string& text, std::uint32_t prompt_bytes = 0) {
  const auto encoded = encoder.encode({{{0, 1}, prompt_bytes, text}});
  REQUIRE(encoded.size() == 1);
  REQUIRE(std::holds_alternative<RefusedRecord>(encoded[0]));
  CHECK(std::get<RefusedRecord>(encoded[0]).origin == Origin{0, 1});
  return std::get<RefusedRecord>(encoded[0]).reason;
}

/// A BERT of two narrow layers with random weights and a vocabulary of a few words.
void write_tiny_bert(const std::string& directory) {
  std::ofstream(directory + "/config.json")
      << R"({"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24,
             "vocab_size": 9, "max_position_embeddings": 12, "layer_norm_eps": 1e-12, "hidden_act": "gelu"})";
  std::ofstream(directory + "/vocab.txt") << "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nriver\nflows\n##s\nnorth\n";
  std::mt19937_64 engine(3);
  std::vector<std::vector<float>> kept;
  kept.reserve(64);
  SafeTensors contents;
  auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const auto size : shape) count *= size;
    auto& values = kept.emplace_back();
    for (std::int64_t i = 0; i < count; ++i)
      values.push_back(static_cast<float>(static_cast<double>(engine() >> 11) * 0x1p-52 - 1));
    contents.tensors[name] = {"F32", std::move(shape),
                              {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}};
  };
  auto both = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    add(name + ".weight", in == 0 ? std::vector{out} : std::vector{out, in});
    add(name + ".bias", {out});
  };
  add("embeddings.word_embeddings.weight", {9, 16});
  add("embeddings.position_embeddings.weight", {12, 16});
  add("embeddings.token_type_embeddings.weight", {2, 16});
  both("embeddings.LayerNorm", 16, 0);
  for (const char* layer : {"encoder.layer.0.", "encoder.layer.1."}) {
    const std::string prefix = layer;
    for (const char* part : {"query", "key", "value"}) both(prefix + "attention.self." + part, 16, 16);
    both(prefix + "attention.output.dense", 16, 16);
    both(prefix + "attention.output.LayerNorm", 16, 0);
    both(prefix + "intermediate.dense", 24, 16);
    both(prefix + "output.dense", 16, 24);
    both(prefix + "output.LayerNorm", 16, 0);
  }
  std::ofstream(directory + "/model.safetensors", std::ios::binary) << write_safetensors(contents);
}

}  // namespace

TEST_CASE("a record's tokens and embedding do not depend on its neighbours", "[encoder]") {
  const auto made = encoder({"base:1"}, tiny_base());
  const std::vector<Record> records{{{0, 1}, 0, "the thinner thing"}, {{0, 2}, 0, std::string(300, 'x')},
                                    {{0, 3}, 4, "sum: 1 + 1 = 2"}};
  const auto together = made->encode(records);
  REQUIRE(together.size() == 3);
  CHECK(made->width() == 32);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto alone = made->encode({records[i]});
    const auto& a = std::get<EncodedRecord>(alone[0]);
    const auto& b = std::get<EncodedRecord>(together[i]);
    CHECK(a.tokens == b.tokens);
    CHECK(a.embedding == b.embedding);
    CHECK(a.embedding.size() == 32);
    CHECK(b.origin == records[i].origin);
  }
}

TEST_CASE("an embedding is the mean of scaled hidden states, the i-th token's with weight i", "[encoder]") {
  const auto base = tiny_base({}, -1, "float32");
  const auto encoded = encoder({"base:2"}, base)->encode({{{0, 1}, 0, "the thinner thing in the inner ring"}});
  const auto& record = std::get<EncodedRecord>(encoded[0]);
  const std::vector<Segment> segments{{record.tokens}};
  Workspace workspace = make_workspace(base->weights());
  const at::Tensor hidden =
      hidden_states(base->weights(), make_batch(base->weights(), segments), 2, nullptr, workspace).contiguous();
  const std::size_t width = record.embedding.size();
  const float* row = hidden.const_data_ptr<float>() + width;  // the first token is left out
  std::vector<double> expected(width);
  double sum = 0;
  for (std::size_t i = 1; i < record.tokens.size(); ++i, row += width) {
    double squares = 0;
    for (std::size_t j = 0; j < width; ++j) squares += double{row[j]} * row[j];
    const double weight = static_cast<double>(i + 1), scale = weight / std::sqrt(squares / static_cast<double>(width));
    for (std::size_t j = 0; j < width; ++j) expected[j] += scale * row[j];
    sum += weight;
  }
  for (std::size_t j = 0; j < width; ++j) CHECK(record.embedding[j] == Approx(expected[j] / sum).margin(1e-4));
}

TEST_CASE("packs of records of any length give each what it has alone", "[encoder]") {
  for (const auto& [precision, products] : {std::pair{"float32", "full"}, {"auto", "full"}, {"float32", "int8"},
                                            {"auto", "int8"}}) {
    TinyModel model;
    model.layers = 3;
    model.kv_heads = 2;
    model.ffn = 608;  // several groups of panels, and deeper than what is packed at a time
    EncoderOptions options{"base:3"};
    options.products = products;
    const auto made = encoder(options, tiny_base(model, -1, precision));
    std::vector<Record> records;
    for (std::uint64_t i = 0; i < 40; ++i)  // far more rows than one pack has
      records.push_back({{0, i + 1}, 0, std::string(2 + i * 37 % 130, static_cast<char>('a' + i % 26)) + " end"});
    records.insert(records.begin() + 5, Record{{0, 99}, 0, ""});  // refused in the midst of them
    const auto together = made->encode(records);
    REQUIRE(together.size() == records.size());
    CHECK(std::holds_alternative<RefusedRecord>(together[5]));
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (i == 5) continue;
      const auto alone = made->encode({records[i]});
      CHECK(std::get<EncodedRecord>(together[i]).embedding == std::get<EncodedRecord>(alone[0]).embedding);
    }
  }
}

TEST_CASE("layers that are kept in 8-bit integers give nearly the same embedding", "[encoder][int8]") {
  const auto tiny = tiny_base({.layers = 3, .ffn = 608}, -1, "float32");
  TinyModel biased{.layers = 3};
  biased.architecture = "qwen2";
  for (const auto& base : {tiny, tiny_base(biased, -1, "float32"), tiny_base({.layers = 3}, -1, "auto")}) {
    if (base->weights().operators == Operators::library) continue;  // bfloat16 without hardware
    EncoderOptions options{"base:3"};
    const auto embedding = [&](const char* products) {
      options.products = products;
      const auto encoded = encoder(options, base)->encode({{{0, 1}, 0, "the thinner thing in the inner ring"}});
      return std::get<EncodedRecord>(encoded[0]).embedding;
    };
    const auto full = embedding("full"), int8 = embedding("int8");
    CHECK(products_of(options, base->weights(), true) == Products::kept);
    double both = 0, of_full = 0, of_int8 = 0;
    for (std::size_t i = 0; i < full.size(); ++i)
      both += full[i] * int8[i], of_full += full[i] * full[i], of_int8 += int8[i] * int8[i];
    CHECK(full != int8);
    CHECK(both / std::sqrt(of_full * of_int8) > 0.999);
  }
}

TEST_CASE("how the encoder multiplies follows the base, and a learner that shares its layers", "[encoder][int8]") {
  const auto base = tiny_base();
  Base::Weights weights = base->weights();
  EncoderOptions options{"base:1"};
  const auto chosen = [&](const char* products, bool prefers_int8, bool dense) {
    options.products = products;
    weights.prefers_int8 = prefers_int8;
    return products_of(options, weights, dense);
  };
  CHECK(chosen("auto", true, true) == Products::kept);
  CHECK(chosen("auto", true, false) == Products::int8);
  CHECK(chosen("auto", false, true) == Products::full);
  CHECK(chosen("int8", false, true) == Products::kept);
  CHECK(chosen("full", true, true) == Products::full);
  options.hidden_tokens = 64;
  CHECK(chosen("auto", true, true) == Products::int8);
  CHECK(chosen("auto", false, true) == Products::full);
  CHECK(chosen("int8", false, true) == Products::int8);
}

TEST_CASE("a part of the base gives the same embedding as the whole", "[encoder]") {
  const std::vector<Record> records{{{0, 1}, 0, "another thing in the inner ring"}};
  const auto whole = encoder({"base:1"}, tiny_base())->encode(records);
  const auto part = encoder({"base:1"}, tiny_base({}, 1))->encode(records);
  CHECK(std::get<EncodedRecord>(whole[0]).embedding == std::get<EncodedRecord>(part[0]).embedding);
}

TEST_CASE("only the first tokens_max tokens are embedded, all are returned", "[encoder]") {
  const auto base = tiny_base();
  const std::string head(20, 'q');
  EncoderOptions options{"base:2"};
  options.tokens_max = 20;
  const auto cut = encoder(options, base)->encode({{{0, 1}, 0, head + "zzzz"}});
  const auto exact = encoder(options, base)->encode({{{0, 1}, 0, head}});
  CHECK(std::get<EncodedRecord>(cut[0]).tokens.size() == 24);
  CHECK(std::get<EncodedRecord>(cut[0]).embedding == std::get<EncodedRecord>(exact[0]).embedding);
}

TEST_CASE("a prompt is tokenised apart from its completion", "[encoder]") {
  const auto made = encoder({"base:1"}, tiny_base());
  const auto joined = made->encode({{{0, 1}, 0, "the"}}), apart = made->encode({{{0, 1}, 1, "the"}});
  CHECK(std::holds_alternative<RefusedRecord>(joined[0]));  // one token
  const auto& record = std::get<EncodedRecord>(apart[0]);
  CHECK(record.prompt_tokens == 1);
  CHECK(record.tokens.size() == 3);  // t | h e: no merge across the boundary
}

TEST_CASE("records that cannot be learned from are refused with the reason", "[encoder]") {
  const auto made = encoder({"base:1"}, tiny_base());
  CHECK(refusal_of(*made, "") == Refusal::empty);
  CHECK(refusal_of(*made, " \n\t\u00a0\u3000\u2028") == Refusal::empty);
  CHECK(refusal_of(*made, "x") == Refusal::no_tokens);
  CHECK(refusal_of(*made, "question?", 9) == Refusal::no_tokens);
  CHECK(refusal_of(*made, "question?", 10) == Refusal::bad_prompt);
  CHECK(refusal_of(*made, "\u00e9t\u00e9", 1) == Refusal::bad_prompt);
  CHECK(std::holds_alternative<EncodedRecord>(made->encode({{{0, 1}, 2, "\u00e9t\u00e9"}})[0]));
}

TEST_CASE("an encoder that cannot be made says why", "[encoder]") {
  const auto base = tiny_base();
  auto error_of = [&](const std::string& kind, const std::string& path = "") {
    auto made = make_encoder({kind, path}, base);
    REQUIRE_FALSE(made);
    return made.error();
  };
  CHECK(error_of("base:3").fault == Fault::bad_config);
  CHECK(error_of("base:").fault == Fault::bad_config);
  CHECK(error_of("base:0").fault == Fault::bad_config);
  CHECK(error_of("bert").message.find("\"bert\"") != std::string::npos);
  CHECK(error_of("minilm", "/nonexistent").fault == Fault::missing);
}

TEST_CASE("minilm gives vectors of length 1 that depend on the words", "[encoder]") {
  TemporaryDirectory directory;
  write_tiny_bert(directory.path());
  const auto made = encoder({"minilm", directory.path()}, tiny_base());
  const auto encoded = made->encode({{{0, 1}, 0, "The river flows north"}, {{0, 2}, 0, "the RIVER flows north"},
                                     {{0, 3}, 0, "north flows the river"}});
  auto embedding = [&](std::size_t i) { return std::get<EncodedRecord>(encoded[i]).embedding; };
  double squares = 0;
  for (const float value : embedding(0)) squares += value * value;
  CHECK(made->width() == 16);
  CHECK(squares == Approx(1).epsilon(1e-5));
  CHECK(embedding(0) == embedding(1));
  CHECK(embedding(0) != embedding(2));
}

TEST_CASE("a damaged minilm directory is refused by the file that is wrong", "[encoder]") {
  TemporaryDirectory directory;
  write_tiny_bert(directory.path());
  const auto base = tiny_base();
  auto message = [&] {
    auto made = make_encoder({"minilm", directory.path()}, base);
    REQUIRE_FALSE(made);
    return made.error().message;
  };
  SECTION("cut weights") {
    std::filesystem::resize_file(directory.file("model.safetensors"), 1000);
    CHECK(message().find("model.safetensors") != std::string::npos);
  }
  SECTION("another width") {
    std::ofstream(directory.file("config.json"))
        << R"({"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24,
               "vocab_size": 9, "max_position_embeddings": 12})";
    CHECK(message().find("word_embeddings") != std::string::npos);
  }
  SECTION("no markers") {
    std::ofstream(directory.file("vocab.txt")) << "[UNK]\nthe\n";
    CHECK(message().find("[CLS]") != std::string::npos);
  }
  SECTION("broken configuration") {
    std::ofstream(directory.file("config.json")) << "{";
    CHECK(message().find("config.json") != std::string::npos);
  }
}
