#include "core/score.hpp"

#include <catch2/catch.hpp>

#include "core/learner.hpp"
#include "core/safetensors.hpp"
#include "core/slot.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;
using kpool::testing::tiny_base;

namespace {

Sample cycle(std::uint64_t start, std::size_t length, std::uint32_t prompt = 0) {
  Sample sample{{0, start}, prompt};
  for (std::size_t i = 0; i < length; ++i) sample.tokens.push_back(static_cast<std::int32_t>((start + i) % 5) + 97);
  return sample;
}

std::string trained_blob(std::shared_ptr<const Base> base) {
  LearnerOptions options;
  options.tokens_per_step = 64;
  options.learning_rate = 0.01;
  options.threads = 1;
  const auto learner = make_learner(options, std::move(base));
  learner->open({0, 1});
  for (std::uint64_t i = 0; i < 12; ++i) learner->learn(0, cycle(i, 64));
  return learner->save(0);
}

}  // namespace

TEST_CASE("a record's score does not depend on what it is packed with", "[score]") {
  const auto base = tiny_base();
  const auto scorer = make_scorer({.tokens_per_forward = 100, .threads = 1}, base);
  const std::vector<Sample> samples{cycle(0, 30), cycle(1, 250), cycle(2, 1), cycle(3, 40, 35), cycle(4, 0)};
  const auto scores = scorer->score(samples);
  REQUIRE(scores.size() == 5);
  CHECK(scores[0].tokens == 29);
  CHECK(scores[1].tokens == 249);
  CHECK(scores[2].tokens == 0);
  CHECK(scores[3].tokens == 5);
  CHECK(scores[4].tokens == 0);
  const auto alone = scorer->score({&samples[3], 1});
  CHECK(alone[0].nats == Approx(scores[3].nats).epsilon(1e-4));
  CHECK(scores[0].nats > 0);
}

TEST_CASE("a slot's blob and its PEFT export score alike, and better than the base", "[score]") {
  const auto base = tiny_base();
  const std::string blob = trained_blob(base);
  const auto scorer = make_scorer({.threads = 1}, base);
  const std::vector<Sample> samples{cycle(2, 90)};
  const double plain = scorer->score(samples)[0].nats;
  REQUIRE(scorer->use_adapter(blob, std::nullopt));
  const double adapted = scorer->score(samples)[0].nats;
  CHECK(adapted < plain - 20);
  auto contents = parse_safetensors(blob);
  std::erase_if(contents->tensors, [](const auto& entry) { return entry.first.starts_with("momentum."); });
  contents->metadata.clear();
  const std::string exported = write_safetensors(*contents);
  scorer->use_base();
  CHECK(scorer->score(samples)[0].nats == plain);
  REQUIRE(scorer->use_adapter(exported, 8.0));  // alpha 64 over rank 8
  CHECK(scorer->score(samples)[0].nats == adapted);
}

TEST_CASE("an adapter that does not fit is refused and the former one stays", "[score]") {
  const auto base = tiny_base();
  const std::string blob = trained_blob(base);
  const auto scorer = make_scorer({.threads = 1}, base);
  REQUIRE(scorer->use_adapter(blob, std::nullopt));
  const std::vector<Sample> samples{cycle(2, 50)};
  const double before = scorer->score(samples)[0].nats;
  auto refused = [&](const std::string& bytes, std::optional<double> scale) {
    const auto status = scorer->use_adapter(bytes, scale);
    REQUIRE_FALSE(status);
    CHECK(scorer->score(samples)[0].nats == before);
    return status.error();
  };
  auto contents = parse_safetensors(blob);
  contents->metadata.clear();
  CHECK(refused(write_safetensors(*contents), std::nullopt).message.find("alpha") != std::string::npos);
  SafeTensors foreign = *contents;
  foreign.tensors["base_model.model.model.layers.7.mlp.up_proj.lora_A.weight"] =
      contents->tensors.at("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight");
  CHECK(refused(write_safetensors(foreign), 2.0).fault == Fault::mismatch);
  CHECK(refused(blob.substr(0, 100), 2.0).fault == Fault::bad_input);
  CHECK(refused(write_safetensors({}), 2.0).fault == Fault::bad_input);
  const auto other = make_scorer({.threads = 1}, tiny_base({.seed = 2}))->use_adapter(blob, std::nullopt);
  REQUIRE_FALSE(other);
  CHECK(other.error().fault == Fault::mismatch);
}
