#include "core/learner.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>

#include "core/safetensors.hpp"
#include "core/slot.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;
using kpool::testing::tiny_base;

namespace {

LearnerOptions options() {
  LearnerOptions options;
  options.slots = 3;
  options.rank = 4;
  options.alpha = 8;
  options.learning_rate = 0.01;
  options.tokens_per_step = 64;
  options.gain_every = 2;
  options.sharpness_every = 3;
  options.seed = 5;
  options.threads = 1;
  return options;
}

/// A text that has something to learn: a cycle of `period` bytes.
Sample sample(std::uint64_t seq, std::size_t length, std::int32_t period = 7) {
  Sample sample{{0, seq}};
  for (std::size_t i = 0; i < length; ++i)
    sample.tokens.push_back(static_cast<std::int32_t>((seq + i) % static_cast<std::size_t>(period)) + 97);
  return sample;
}

std::vector<float> weights_of(const std::string& blob, const std::string& part) {
  const auto contents = parse_safetensors(blob);
  REQUIRE(contents);
  std::vector<float> all;
  for (const auto& [name, tensor] : contents->tensors) {
    if (name.find(part) == std::string::npos || name.starts_with("momentum.")) continue;
    const auto old = all.size();
    all.resize(old + tensor.data.size() / sizeof(float));
    std::memcpy(all.data() + old, tensor.data.data(), tensor.data.size());
  }
  REQUIRE_FALSE(all.empty());
  return all;
}

}  // namespace

TEST_CASE("after the first step B has moved and A has not", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({0, 1});
  const std::string before = learner->save(0);
  const auto reports = learner->learn(0, sample(1, 64));
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].step == 1);
  CHECK(reports[0].tokens == 63);
  CHECK(reports[0].records == 1);
  const std::string after = learner->save(0);
  CHECK(weights_of(before, "lora_A") == weights_of(after, "lora_A"));
  for (const float b : weights_of(after, "lora_B")) REQUIRE((std::abs(b) == 0.01f || b == 0.0f));
  CHECK(weights_of(before, "lora_B") != weights_of(after, "lora_B"));
  learner->learn(0, sample(2, 64));
  CHECK(weights_of(before, "lora_A") != weights_of(learner->save(0), "lora_A"));
}

TEST_CASE("the loss falls on what is repeated, and the gain says so", "[learner]") {
  auto settings = options();
  settings.momentum_type = GENERATE(MomentumType::float32, MomentumType::bfloat16);
  const auto learner = make_learner(settings, tiny_base());
  learner->open({0, 1});
  std::vector<StepReport> reports;
  for (std::uint64_t i = 1; i <= 24; ++i)
    for (auto& report : learner->learn(0, sample(i, 64))) reports.push_back(std::move(report));
  REQUIRE(reports.size() == 24);
  CHECK(reports.back().loss < reports.front().loss - 1);
  for (const StepReport& report : reports) {
    CHECK(report.gain.has_value() == (report.step % 2 == 0));
    CHECK(report.sharpness.has_value() == (report.step % 3 == 0));
    if (report.sharpness) CHECK(std::isfinite(*report.sharpness));
  }
  CHECK(*reports.back().gain > 1);
}

TEST_CASE("a step leaves the bytes of all other slots alone", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  for (std::uint32_t slot = 0; slot < 3; ++slot) learner->open({slot, slot + 1});
  for (std::uint32_t slot = 0; slot < 3; ++slot) learner->learn(slot, sample(slot, 64));
  CHECK(learner->take_dirty() == std::vector<std::uint32_t>{0, 1, 2});
  const std::string first = learner->save(0), last = learner->save(2), middle = learner->save(1);
  for (std::uint64_t i = 0; i < 5; ++i) learner->learn(1, sample(i, 100, 11));
  learner->flush();
  CHECK(learner->take_dirty() == std::vector<std::uint32_t>{1});
  CHECK(learner->take_dirty().empty());
  CHECK(learner->save(0) == first);
  CHECK(learner->save(2) == last);
  CHECK(learner->save(1) != middle);
}

TEST_CASE("records are packed into steps of equal length, and every token is predicted once", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({0, 1});
  CHECK(learner->learn(0, sample(1, 40)).empty());
  auto reports = learner->learn(0, sample(2, 200));  // 240 tokens, cut three times: 64, 64, 64 and the rest
  std::uint32_t tokens = 0, records = 0;
  CHECK(reports.size() == 3);
  for (auto& report : learner->flush()) reports.push_back(std::move(report));
  REQUIRE(reports.size() == 4);
  for (const auto& report : reports) {
    tokens += report.tokens;
    records += report.records;
  }
  CHECK(tokens == 39 + 199);
  CHECK(records == 2);
  CHECK(reports[0].records == 1);
  CHECK(learner->flush().empty());
}

TEST_CASE("a partial step is scaled by its share of a full one", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({0, 1});
  learner->learn(0, sample(1, 16));
  REQUIRE(learner->flush().size() == 1);
  for (const float b : weights_of(learner->save(0), "lora_B"))
    REQUIRE((b == 0.0f || std::abs(b) == Approx(0.0025).epsilon(1e-5)));
}

TEST_CASE("a prompt is read, not learned", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({0, 1});
  Sample prompted = sample(1, 40);
  prompted.prompt_tokens = 30;
  learner->learn(0, prompted);
  const auto reports = learner->flush();
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].tokens == 10);
  Sample all_prompt = sample(2, 20);
  all_prompt.prompt_tokens = 20;
  const std::string before = learner->save(0);
  learner->learn(0, all_prompt);
  const auto nothing = learner->flush();
  REQUIRE(nothing.size() == 1);
  CHECK(nothing[0].tokens == 0);
  CHECK(nothing[0].records == 1);
  CHECK(learner->save(0) == before);
}

TEST_CASE("an interrupted run goes on with the same bytes", "[learner]") {
  const auto base = tiny_base();
  auto settings = options();
  settings.momentum_type = GENERATE(MomentumType::float32, MomentumType::bfloat16);
  auto run = [&](std::uint64_t interrupted_at) {
    auto learner = make_learner(settings, base);
    learner->open({1, 4});
    std::vector<StepReport> reports;
    for (std::uint64_t i = 1; i <= 12; ++i) {
      for (auto& report : learner->learn(1, sample(i, 50))) reports.push_back(std::move(report));
      if (i % 4 == 0)
        for (auto& report : learner->flush()) reports.push_back(std::move(report));
      if (i != interrupted_at) continue;
      const std::string blob = learner->save(1);
      learner = make_learner(settings, base);
      REQUIRE(learner->restore(1, blob));
      CHECK(learner->save(1) == blob);
    }
    double measured = 0;
    for (const auto& report : reports) measured += report.loss + report.gain.value_or(0) + report.sharpness.value_or(0);
    return std::pair(learner->save(1), measured);
  };
  const auto whole = run(0);
  CHECK(run(4) == whole);
  CHECK(run(8) == whole);
}

TEST_CASE("a reborn slot starts anew", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({0, 1});
  const std::string fresh = learner->save(0);
  learner->learn(0, sample(1, 130));
  learner->open({0, 2, true});
  CHECK(learner->flush().empty());  // what waited went with the evicted adapter
  CHECK(weights_of(learner->save(0), "lora_A") != weights_of(fresh, "lora_A"));
  for (const float b : weights_of(learner->save(0), "lora_B")) REQUIRE(b == 0.0f);
  const auto reports = learner->learn(0, sample(2, 64));
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].step == 1);
}

namespace {

/// A slot's blob with one matrix filled with a value.
std::string filled(const std::string& blob, const std::string& name, float value) {
  auto contents = parse_safetensors(blob);
  REQUIRE(contents);
  SafeTensor& tensor = contents->tensors.at(name);
  std::string bytes(tensor.data.size(), '\0');
  for (std::size_t i = 0; i < bytes.size(); i += sizeof value) std::memcpy(bytes.data() + i, &value, sizeof value);
  tensor.data = bytes;
  return write_safetensors(*contents);
}

constexpr const char* kDownB = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight";

}  // namespace

TEST_CASE("a step whose loss is not finite is rolled back and its records are refused", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({0, 1});
  const std::string broken = filled(learner->save(0), kDownB, 3e38f);
  REQUIRE(learner->restore(0, broken));
  learner->take_dirty();
  CHECK(learner->learn(0, sample(1, 30)).empty());
  const auto reports = learner->learn(0, sample(2, 150));
  REQUIRE(reports.size() == 1);  // the rest of the second record is dropped with it
  CHECK(reports[0].tokens == 0);
  CHECK(reports[0].records == 0);
  REQUIRE(reports[0].refused.size() == 2);
  CHECK(reports[0].refused[0].origin == Origin{0, 1});
  CHECK(reports[0].refused[1].origin == Origin{0, 2});
  CHECK(reports[0].refused[1].reason == Refusal::numeric);
  CHECK(learner->flush().empty());
  CHECK(learner->save(0) == broken);
  CHECK(learner->take_dirty().empty());
}

TEST_CASE("a blob that does not fit is refused by what differs", "[learner]") {
  const auto base = tiny_base();
  const auto learner = make_learner(options(), base);
  learner->open({0, 1});
  learner->learn(0, sample(1, 64));
  const std::string blob = learner->save(0);
  auto refused = [&](LearnerOptions changed, std::shared_ptr<const Base> other, const std::string& bytes) {
    const auto status = make_learner(changed, std::move(other))->restore(0, bytes);
    REQUIRE_FALSE(status);
    return status.error();
  };
  auto other_rank = options(), other_alpha = options();
  other_rank.rank = 8;
  other_alpha.alpha = 16;
  CHECK(refused(other_rank, base, blob).fault == Fault::mismatch);
  CHECK(refused(other_alpha, base, blob).message.find("alpha") != std::string::npos);
  CHECK(refused(options(), tiny_base({.seed = 2}), blob).message.find("base") != std::string::npos);
  CHECK(refused(options(), base, blob.substr(0, blob.size() - 4)).fault == Fault::bad_input);
  CHECK(refused(options(), base, "").fault == Fault::bad_input);
  const float nan = std::nanf("");
  CHECK(refused(options(), base, filled(blob, kDownB, nan)).message.find(kDownB) != std::string::npos);
  auto narrow = options();
  narrow.momentum_type = MomentumType::bfloat16;
  const std::string moved = std::string("momentum.") + kDownB;
  CHECK(refused(narrow, base, filled(blob, moved, nan)).message.find(moved) != std::string::npos);
}

TEST_CASE("a slot's names are PEFT's", "[learner]") {
  const auto learner = make_learner(options(), tiny_base());
  learner->open({2, 9});
  const std::string blob = learner->save(2);
  const auto contents = parse_safetensors(blob);
  REQUIRE(contents);
  CHECK(contents->tensors.size() == 2 * 2 * 7 * 2);
  const auto& a = contents->tensors.at("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  CHECK(a.dtype == "F32");
  CHECK(a.shape == std::vector<std::int64_t>{4, 32});
  CHECK(contents->tensors.count("momentum.base_model.model.model.layers.1.mlp.up_proj.lora_B.weight") == 1);
  CHECK(contents->metadata.at("rank") == "4");
  CHECK(contents->metadata.at("alpha") == "8");
  CHECK(contents->metadata.at("generation") == "9");
  CHECK(contents->metadata.at("step") == "0");
}
