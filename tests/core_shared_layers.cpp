// Layers that no adapter changes run once: the encoder hands its hidden states on, and the learner begins above them.
#include <ATen/ops/equal.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>

#include "core/encoder.hpp"
#include "core/learner.hpp"
#include "core/llama.hpp"
#include "core/weights.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

constexpr std::size_t width = 32;

std::shared_ptr<const Base> base(const char* forward = "full") {
  TinyModel model;
  model.layers = 4;
  const TemporaryDirectory directory;
  write_tiny_model(model, directory.file("tiny.gguf"));
  auto base = Base::load({.path = directory.file("tiny.gguf"), .precision = "float32", .forward = forward});
  REQUIRE(base);
  return *base;
}

std::unique_ptr<Encoder> encoder(const std::shared_ptr<const Base>& base, std::uint32_t tokens,
                                 std::uint32_t of_group, const char* products = "full") {
  EncoderOptions options{"base:2"};
  options.tokens_max = 16;
  options.products = products;
  options.hidden_tokens = tokens;
  options.hidden_tokens_per_group = of_group;
  auto made = make_encoder(options, base);
  REQUIRE(made);
  return *std::move(made);
}

std::vector<EncodedRecord> encode(Encoder& encoder, const std::vector<std::string>& texts) {
  std::vector<Record> records;
  for (const std::string& text : texts) records.push_back({{0, records.size() + 1}, 3, text});
  std::vector<EncodedRecord> encoded;
  for (Encoded& each : encoder.encode(std::move(records))) encoded.push_back(std::get<EncodedRecord>(std::move(each)));
  return encoded;
}

/// Short ones and ones that are longer than a step.
std::vector<std::string> texts() {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < 24; ++i) {
    std::string text = "q: ";
    for (std::size_t k = 0; k < 5 + i * i % 90; ++k) text += static_cast<char>('a' + (i * k + k / 3) % 26);
    all.push_back(std::move(text));
  }
  return all;
}

LearnerOptions learning(std::uint32_t top_layers) {
  LearnerOptions options;
  options.slots = 1;
  options.rank = 4;
  options.top_layers = top_layers;
  options.tokens_per_step = 64;
  options.gain_every = 2;
  options.threads = 1;
  return options;
}

std::vector<StepReport> train(const std::shared_ptr<const Base>& base, std::uint32_t top_layers,
                              std::vector<EncodedRecord> records) {
  const auto learner = make_learner(learning(top_layers), base);
  learner->open({0, 1});
  std::vector<StepReport> reports;
  for (EncodedRecord& record : records)
    for (StepReport& report : learner->learn(0, {record.origin, record.prompt_tokens, std::move(record.tokens),
                                                 std::move(record.hidden)}))
      reports.push_back(std::move(report));
  for (StepReport& report : learner->flush()) reports.push_back(std::move(report));
  return reports;
}

/// The largest difference of losses and gains.
double difference(const std::vector<StepReport>& a, const std::vector<StepReport>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].gain.has_value() == b[i].gain.has_value());
    const double gain = a[i].gain.value_or(0) - b[i].gain.value_or(0);
    largest = std::max({largest, std::abs(a[i].loss - b[i].loss), std::abs(gain)});
  }
  return largest;
}

}  // namespace

TEST_CASE("the encoder's hidden states are those of the base after its layers", "[shared]") {
  const auto model = base();
  const auto made = encoder(model, 40, 1000);
  Workspace workspace = make_workspace(model->weights());
  const auto alone = encoder(model, 0, 0);
  const auto all = encode(*made, texts()), without = encode(*alone, texts());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const EncodedRecord& record = all[i];
    REQUIRE(record.hidden.layers == 2);
    const std::size_t tokens = std::min<std::size_t>(record.tokens.size(), 40);
    REQUIRE(record.hidden.values.size() == tokens * width);
    const Segment segment{std::span(record.tokens).first(tokens)};
    const at::Tensor expected =
        hidden_states(model->weights(), make_batch(model->weights(), {&segment, 1}), 2, nullptr, workspace);
    const float* values = expected.const_data_ptr<float>();
    for (std::size_t j = 0; j < record.hidden.values.size(); ++j)
      REQUIRE(record.hidden.values[j] == Approx(values[j]).margin(1e-5));
    CHECK(without[i].hidden.values.empty());
    for (std::size_t j = 0; j < width; ++j)
      CHECK(record.embedding[j] == Approx(without[i].embedding[j]).margin(1e-5));
  }
}

TEST_CASE("a group's hidden states are bounded; the next group has its own", "[shared]") {
  const auto made = encoder(base(), 64, 50);
  const auto tokens = [&] {
    std::vector<std::size_t> counts;
    const std::string longer(30, 'z'), shorter(20, 'z');
    for (const EncodedRecord& record : encode(*made, {longer, longer, shorter}))
      counts.push_back(record.hidden.values.size() / width);
    return counts;
  };
  using Counts = std::vector<std::size_t>;
  CHECK(tokens() == Counts{30, 0, 20});
  CHECK(tokens() == Counts{0, 0, 0});
  made->begin_group();
  CHECK(tokens() == Counts{30, 0, 20});
}

TEST_CASE("training on hidden states is training on the tokens", "[shared]") {
  const auto model = base();
  const auto plain = encode(*encoder(model, 0, 0), texts());
  for (const std::uint32_t top_layers : {1u, 2u}) {  // the third layer without an adapter is the learner's to run
    const auto expected = train(model, top_layers, plain);
    REQUIRE(expected.size() > 8);
    CHECK(difference(train(model, top_layers, encode(*encoder(model, 64, 100'000), texts())), expected) < 1e-4);
    // some records without, some with too few for a step's piece
    CHECK(difference(train(model, top_layers, encode(*encoder(model, 64, 300), texts())), expected) < 1e-4);
    CHECK(difference(train(model, top_layers, encode(*encoder(model, 20, 100'000), texts())), expected) < 1e-4);
    // what is brought is what is used
    auto wrong = encode(*encoder(model, 64, 100'000), texts());
    for (EncodedRecord& record : wrong) std::fill(record.hidden.values.begin(), record.hidden.values.end(), 1.0f);
    CHECK(difference(train(model, top_layers, wrong), expected) > 1e-2);
  }
}

TEST_CASE("where training goes forward in 8-bit integers, so do the layers that are shared", "[shared]") {
  const auto full = base(), int8 = base("int8");
  const auto plain = encode(*encoder(full, 0, 0), texts());
  const auto exact = train(full, 2, plain), expected = train(int8, 2, plain);
  const double rounding = difference(expected, exact);
  CHECK(rounding > 1e-4);
  CHECK(rounding < 0.05);
  for (const std::uint32_t of_group : {100'000u, 300u})  // all of them, or the learner runs some itself
    CHECK(difference(train(int8, 2, encode(*encoder(int8, 64, of_group, "int8"), texts())), expected) < rounding / 4);
}

TEST_CASE("hidden states from above the lowest adapter are not used", "[shared]") {
  const auto model = base();
  auto wrong = encode(*encoder(model, 64, 100'000), texts());
  for (EncodedRecord& record : wrong) std::fill(record.hidden.values.begin(), record.hidden.values.end(), 1.0f);
  const auto plain = encode(*encoder(model, 0, 0), texts());
  for (const std::uint32_t top_layers : {0u, 3u})
    CHECK(difference(train(model, top_layers, wrong), train(model, top_layers, plain)) == 0);
}
