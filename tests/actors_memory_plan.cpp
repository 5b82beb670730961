// What of a budget goes where, by the stages of the process; what does not fit is refused with the arithmetic.
#include "actors/memory_plan.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>

#include "actors/models.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

constexpr std::size_t mega = 1'000'000;

MemoryFacts facts() {
  MemoryFacts facts;
  facts.process = 128 * mega;
  facts.threads = 2;
  facts.base = {200 * mega, 60 * mega, 10 * mega};
  facts.learner = {10 * mega, 30 * mega, 50 * mega, 150 * mega};
  facts.encoder.work = 5 * mega;
  facts.embedding_width = 500;
  return facts;
}

std::size_t line(const MemoryPlan& plan, const std::string& what) {
  const auto found = std::find_if(plan.lines.begin(), plan.lines.end(), [&](const auto& l) { return l.what == what; });
  return found == plan.lines.end() ? 0 : found->bytes;
}

Config with_stages(std::vector<std::string> stages) {
  Config config;
  config.engine.stages = std::move(stages);
  return config;
}

}  // namespace

TEST_CASE("each line is the sum that its words say") {
  const MemoryPlan plan = plan_memory({}, facts());
  CHECK(line(plan, "process") == 128 * mega + 32 * mega + 22 * (256u << 10));
  CHECK(line(plan, "base") == 200 * mega);
  CHECK(line(plan, "tokenizer") == 10 * mega);
  CHECK(line(plan, "slots") == 5 * 10 * mega);
  CHECK(line(plan, "learner") == 30 * mega);
  CHECK(line(plan, "slots in transit") == 7 * 10 * mega);
  CHECK(line(plan, "commit") == 2 * 5 * 10 * mega);
  CHECK(line(plan, "gateways") == 2 * (8u << 20));
  std::size_t sum = 0;
  for (const MemoryLine& each : plan.lines) sum += each.bytes;
  CHECK(plan.fixed() == sum);
}

TEST_CASE("a base that stays quantised costs its file, more slots cost each, and a memory store holds them again") {
  Config config;
  config.base.weights = "quantised";
  config.routing.slots = 9;
  config.store.kind = "memory";
  const MemoryPlan plan = plan_memory(config, facts());
  CHECK(line(plan, "base") == 60 * mega);
  CHECK(line(plan, "slots") == 90 * mega);
  CHECK(line(plan, "store") == 90 * mega);
}

TEST_CASE("what routing and training share lies in the groups in flight, and can be done without") {
  Config config;
  MemoryFacts known = facts();
  CHECK(line(plan_memory(config, known), "shared layers") == 0);
  known.hidden_tokens = 4096;
  const MemoryPlan plan = plan_memory(config, known);
  CHECK(line(plan, "shared layers") == 2 * config.commit.groups_in_flight * 4096 * 500 * sizeof(float));
  config.memory.budget_mb = 100;
  const Status fits = check_budget(plan_memory(config, known), config);
  REQUIRE_FALSE(fits);
  CHECK(fits.error().message.find(", encoder.share = false with encoder.products = \"full\",") !=
        std::string::npos);
}

TEST_CASE("layers that the encoder keeps in 8-bit integers are counted, and can be done without") {
  Config config;
  MemoryFacts known = facts();
  known.encoder.int8 = 46 * mega;
  CHECK(line(plan_memory(config, known), "encoder's layers") == 46 * mega);
  CHECK(line(plan_memory(with_stages({"training"}), known), "encoder's layers") == 0);
  config.memory.budget_mb = 100;
  const Status fits = check_budget(plan_memory(config, known), config);
  REQUIRE_FALSE(fits);
  CHECK(fits.error().message.find(", encoder.products = \"full\",") != std::string::npos);
}

TEST_CASE("layers are shared where no adapter changes them") {
  BaseShape shape{"llama", 13, 32, 4, 2, 8, 64, 264, 512};  // what an encoding process has loaded
  shape.file_layers = 30;
  const auto shares = [&](const std::function<void(Config&)>& set) {
    Config config;
    config.lora.layers = 17;
    set(config);
    const EncoderOptions options = encoder_options(config, shape);
    CHECK((options.hidden_tokens > 0) == (options.hidden_tokens_per_group > 0));
    if (options.hidden_tokens > 0) CHECK(options.products == config.base.forward);
    return options.hidden_tokens > 0;
  };
  CHECK(shares([](Config&) {}));
  CHECK(shares([](Config& c) { c.lora.layers = 1; }));
  CHECK_FALSE(shares([](Config& c) { c.lora.layers = 18; }));
  CHECK_FALSE(shares([](Config& c) { c.lora.layers = 0; }));
  CHECK_FALSE(shares([](Config& c) { c.encoder.share = false; }));
  CHECK_FALSE(shares([](Config& c) { c.encoder.products = "int8"; }));
  CHECK(shares([](Config& c) { c.encoder.products = c.base.forward = "int8"; }));
  CHECK(shares([](Config& c) { c.base.forward = "int8"; }));
  CHECK_FALSE(shares([](Config& c) { c.encoder.products = "full", c.base.forward = "int8"; }));
  CHECK_FALSE(shares([](Config& c) { c.encoder.kind = "minilm"; }));
  Config config;
  config.lora.layers = 17;
  CHECK(encoder_options(config, shape).hidden_tokens == 512);
  CHECK(encoder_options(config, shape).hidden_tokens_per_group == 4096);
  config.commit.bytes = 1024;  // at least one record's
  CHECK(encoder_options(config, shape).hidden_tokens_per_group == 512);
  config.commit.bytes = 1u << 30;  // and at most what fits into a frame
  CHECK(encoder_options(config, shape).hidden_tokens_per_group == (64u << 20) / (32 * sizeof(float)));
}

TEST_CASE("the activations get what the budget leaves, at most what is fastest") {
  MemoryPlan plan = plan_memory({}, facts());
  CHECK(plan.activations() == 150 * mega);  // no budget
  CHECK(plan.fits());
  for (const std::size_t left : {50u, 51u, 149u, 150u}) {
    plan.budget = plan.fixed() + left * mega;
    CHECK(plan.activations() == left * mega);
    CHECK(plan.fits());
  }
  plan.budget = plan.fixed() + 1000 * mega;
  CHECK(plan.activations() == 150 * mega);
  plan.budget = plan.fixed() + 50 * mega - 1;
  CHECK_FALSE(plan.fits());
  plan.budget = 1;
  CHECK_FALSE(plan.fits());
  CHECK(plan.activations() == 50 * mega);
}

TEST_CASE("a budget that is too small is refused with the arithmetic and what to change") {
  Config config;
  config.memory.budget_mb = 500;
  config.train.momentum_type = "float32";
  const MemoryPlan plan = plan_memory(config, facts());
  const Status fits = check_budget(plan, config);
  REQUIRE_FALSE(fits);
  CHECK(fits.error().fault == Fault::bad_config);
  CHECK(fits.error().message.starts_with("memory.budget_mb = 500, but this process needs at least " +
                                         std::to_string((plan.fixed() + 50 * mega + mega - 1) / mega) +
                                         " MB: process 166 + base 200 + tokenizer 10 + encoder 5.0 + "));
  CHECK(fits.error().message.find("activations 50 at least; raise it, or choose fewer routing.slots") !=
        std::string::npos);
  CHECK(fits.error().message.find("base.weights = \"quantised\", train.momentum_type = \"bfloat16\"") !=
        std::string::npos);
  config.memory.budget_mb = 5000;
  CHECK(check_budget(plan_memory(config, facts()), config));
}

TEST_CASE("a process plans for the stages that it has") {
  MemoryFacts known = facts();
  const MemoryPlan training = plan_memory(with_stages({"training"}), known);
  CHECK(line(training, "slots") == 50 * mega);
  CHECK(line(training, "slots in transit") == 5 * 10 * mega);
  Config apart = with_stages({"training"});
  apart.engine.transport = "ipc:/run/kpool";  // the bound on slots does not hold between processes
  CHECK(line(plan_memory(apart, facts()), "slots in transit") == 10 * 10 * mega);
  CHECK((line(training, "commit") == 0 && line(training, "gateways") == 0 && line(training, "mixture") == 0));
  CHECK(training.activations_most == 150 * mega);
  known.base = {};  // nothing of it is loaded where only slots are stored
  const MemoryPlan persistence = plan_memory(with_stages({"persistence"}), known);
  CHECK((line(persistence, "base") == 0 && line(persistence, "slots") == 0));
  CHECK(line(persistence, "commit") == 100 * mega);
  CHECK(persistence.activations() == 0);
  const MemoryPlan serving = plan_memory(with_stages({"serving"}), known);
  CHECK((line(serving, "commit") == 0 && line(serving, "slots in transit") == 0));
}

TEST_CASE("the plan in words names every line, how a step runs, and the sum") {
  MemoryPlan plan = plan_memory({}, facts());
  plan.step = {3, 2, 1, 100 * mega};
  plan.budget = plan.fixed() + 100 * mega;
  const auto words = describe(plan);
  REQUIRE(words.size() == plan.lines.size() + 2);
  CHECK(words[1] == "base 200 MB (expanded when loaded)");
  CHECK(words[words.size() - 2] ==
        "activations 100 MB (50 at least, 150 at most; a step keeps all of 3 layers, computes the wide product of 2 "
        "again, and all of 1)");
  CHECK(words.back().find(" MB at most, of a budget of ") != std::string::npos);
  plan.budget = 0;
  CHECK(describe(plan).back().ends_with("; memory.budget_mb sets no limit"));
}

TEST_CASE("what is foreseen of a model's file is enough, and what is refused is refused before it is loaded") {
  const TemporaryDirectory directory;
  write_tiny_model({}, directory.file("tiny.gguf"));
  Config config;
  config.base.path = directory.file("tiny.gguf");
  config.encoder.kind = "base:1";
  config.train.threads = 1;
  const auto plan = foresee_memory(config);
  REQUIRE(plan);
  CHECK(line(*plan, "slots") == 5 * slot_bytes({"llama", 2, 32, 4, 2, 8, 64, 264, 512}, 8, momentum_type(config)));
  CHECK((plan->activations_least > 0 && plan->activations_least <= plan->activations_most));
  CHECK(plan->step.store_all == 2);
  config.memory.budget_mb = 1;
  const auto refused = load_parts(config);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().fault == Fault::bad_config);
  CHECK(refused.error().message.starts_with("memory.budget_mb = 1, but this process needs at least "));
  config.memory.budget_mb = 100'000;
  CHECK(load_parts(config));
  config.encoder.products = "int8";
  config.encoder.kind = "base:99";
  CHECK(foresee_memory(config));
  CHECK(load_parts(config).error().message.find("the base has 2 layers loaded") != std::string::npos);
  config.base.path = directory.file("absent.gguf");
  CHECK(foresee_memory(config).error().fault == Fault::missing);
}
