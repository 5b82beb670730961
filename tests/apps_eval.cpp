// kpool-eval: plans, streams, and a small experiment that is interrupted and goes on.
#include <catch2/catch.hpp>

#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "apps/kpool_eval_calibration.hpp"
#include "apps/kpool_eval_experiment.hpp"
#include "apps/kpool_eval_run.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;
using kpool::testing::TemporaryDirectory;

namespace {

/// Two domains of texts over different letters.
void write_data(const TemporaryDirectory& directory) {
  for (const std::string name : {"letters", "digits"}) {
    std::filesystem::create_directory(directory.file(name));
    std::ofstream out(directory.file(name + "/one.jsonl"));
    const std::string alphabet = name == "letters" ? "abcdefgh the of and " : "0123456789 12 34 56 ";
    std::uint64_t state = name.size();
    for (int i = 0; i < 150; ++i) {
      std::string text;
      for (int k = 0; k < 40; ++k) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        text += alphabet[(state >> 33) % alphabet.size()];
      }
      out << nlohmann::json{{"text", text}}.dump() << "\n";
    }
  }
}

std::string plan_text(const std::string& more = "") {
  return "name = 'small'\nmethods = ['kpool', 'task-id', 'shared']\nseeds = [1, 2]\n"
         "[stream]\ndomains = ['letters', 'digits']\ntokens_per_domain = 1500\nheld_out_tokens = 400\n"
         "[settings]\n'encoder.kind' = 'base:1'\n'lora.rank' = 4\n'train.tokens_per_step' = 64\n'train.threads' = 1\n"
         "'commit.bytes' = 2048\n'routing.slots' = 3\n" + more;
}

struct Fixture {
  Fixture() {
    write_data(directory);
    kpool::testing::write_tiny_model({}, directory.file("tiny.gguf"));
    options = {directory.file("plan.toml"), directory.file("tiny.gguf"), directory.path(), directory.file("out"),
               {"lora.alpha=8"}, false};
    write_plan(plan_text());
  }
  void write_plan(const std::string& text) { std::ofstream(options.plan) << text; }
  std::string fault_of(const std::string& text) {
    write_plan(text);
    const auto plan = read_plan(options.plan);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().fault == Fault::bad_config);
    return plan.error().message.substr(plan.error().message.find("plan.toml") + 9);
  }
  std::vector<std::string> run() {
    std::vector<std::string> said;
    const Status done = run_experiment(options, [&](const std::string& line) { said.push_back(line); });
    INFO((done ? "" : done.error().message));
    REQUIRE(done);
    return said;
  }
  std::string results() const {
    std::ifstream in(options.out, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<nlohmann::json> rows() const {
    std::vector<nlohmann::json> rows;
    std::ifstream in(options.out);
    for (std::string line; std::getline(in, line);) rows.push_back(nlohmann::json::parse(line));
    return rows;
  }
  TemporaryDirectory directory;
  ExperimentOptions options;
};

Domain counted(const std::string& name, std::uint32_t sources) {
  Domain domain{.name = name};
  for (std::uint32_t i = 0; i < 60; ++i)
    domain.training.push_back({{i % sources, i}, 0, std::vector<std::int32_t>(10, 1), {}});
  return domain;
}

}  // namespace

TEST_CASE("a plan's mistakes are named with their place") {
  Fixture fixture;
  CHECK(fixture.fault_of("name = 'x'\nmethod = ['kpool']\n") == ":2:10: unknown key \"method\"");
  CHECK(fixture.fault_of("name = 'x'\nmethods = ['kpool']\n[stream]\ndomains = ['a']\nshape = 'rounds'\n") ==
        ":5:9: shape is one of: blocks, shuffled, both");
  CHECK(fixture.fault_of("name = 'x'\nmethods = ['oracle']\n[stream]\ndomains = ['a']\n") ==
        ": methods are kpool, task-id, shared, centroid, rls, softmax, softmax-balanced, not oracle");
  CHECK(fixture.fault_of("name = 'x'\nmethods = ['kpool']\nseeds = []\n[stream]\ndomains = ['a']\n") ==
        ":3:9: seeds must be a list that is not empty, of one type");
  CHECK(fixture.fault_of("name = 'x'\nmethods = ['softmax']\n[stream]\ndomains = ['a']\nlearn = false\n") ==
        ": softmax learns from losses, which a stream without learning lacks");
  CHECK(fixture.fault_of(plan_text("[grid]\n'lora.rank' = 4\n")).ends_with(
      "the grid has lists of values under whole keys, as in \"routing.slots\" = [4, 5]"));
}

TEST_CASE("runs are the product of seeds, cells and methods, and settings reach their configuration") {
  Fixture fixture;
  fixture.write_plan(plan_text("[grid]\n'train.learning_rate' = [1e-3, 0.0005]\n'eviction.policy' = ['count']\n"));
  const auto plan = read_plan(fixture.options.plan);
  REQUIRE(plan);
  const auto runs = list_runs(*plan, {{"base.path", "model"}});
  REQUIRE(runs);
  REQUIRE(runs->size() == 12);
  std::set<std::string> names;
  for (const RunPlan& run : *runs) names.insert(run.name());
  CHECK(names.size() == 12);
  CHECK(runs->at(4).name() == "task-id eviction.policy=count train.learning_rate=0.0005 seed=1");
  CHECK(runs->at(4).config.train.learning_rate == 0.0005);
  CHECK(runs->at(4).config.lora.rank == 4);
  CHECK(runs->at(4).config.base.path == "model");
  CHECK_FALSE(list_runs(*plan, {{"lora.rang", "4"}}));
  const Assignments agreeing{{"routing.merge_agreement", "0.5"}, {"train.learning_rate", "auto"}};
  const auto guarded = list_runs(*plan, agreeing);
  REQUIRE(guarded);
  CHECK_FALSE(guarded->front().config.train.learning_rate);
  Plan routing = *plan;
  routing.stream.learn = false;
  CHECK_FALSE(list_runs(routing, agreeing));
  const auto set = list_runs(*plan, {{"baseline.gate_balance", "0.5"}, {"baseline.gate_choice", "sampled"}});
  REQUIRE(set);
  CHECK(set->front().baseline.gate_balance == 0.5);
  CHECK(set->front().baseline.gate_choice == "sampled");
  CHECK(set->front().baseline.optimiser == "signum");
  for (const auto& [key, value] : Assignments{{"gate_balance", "-1"}, {"gate_balance", "1x"}, {"gate_choice", "best"},
                                              {"optimiser", "sgd"},
                                              {"rls_features", "0"}, {"balance", "1"}})
    CHECK_FALSE(list_runs(*plan, {{"baseline." + key, value}}));
}

TEST_CASE("a stream has every domain's tokens, in blocks that come back or shuffled") {
  const std::vector<Domain> domains = {counted("a", 1), counted("b", 3)};
  StreamPlan plan{.domains = {"a", "b"}, .rounds = 2, .tokens_per_domain = 400};
  const auto blocks = make_stream(plan, domains, 7);
  REQUIRE(blocks);
  REQUIRE(blocks->size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK((*blocks)[i].domain == static_cast<std::int64_t>(i % 2));
    CHECK((*blocks)[i].items.size() == 20);
  }
  plan.shape = "shuffled";
  plan.shares = {3, 1};
  const auto mixed = make_stream(plan, domains, 7);
  REQUIRE(mixed);
  std::size_t of_a = 0, all = 0;
  for (const auto& segment : *mixed)
    for (const Item& item : segment.items) {
      of_a += item.domain == 0;
      ++all;
    }
  CHECK((of_a == 60 && all == 80));
  plan.tokens_per_domain = 4000;
  const auto short_of = make_stream(plan, domains, 7);
  REQUIRE_FALSE(short_of);
  CHECK(short_of.error().message == "the domain a has 600 tokens to learn from where the plan wants 6000");
  plan = {.domains = {"a", "b"}, .shape = "both", .tokens_per_domain = 200, .shares = {9, 1}};
  const auto both = make_stream(plan, domains, 7);
  REQUIRE(both);
  REQUIRE(both->size() == 4);
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;  // no record twice
  for (const auto& segment : *both)
    for (const Item& item : segment.items) CHECK(seen.emplace(item.domain, item.record).second);
  CHECK(seen.size() == 80);
  CHECK(both->at(1).domain == 1);
  CHECK(both->at(2).domain == -1);
}

TEST_CASE("an experiment learns, remembers, is resumed where it was cut, and refuses another plan's results") {
  Fixture fixture;
  CHECK(fixture.run().front() == "small: 6 of 6 runs to do");
  const auto rows = fixture.rows();
  REQUIRE(rows.size() == 6);
  for (const auto& row : rows) {
    CHECK(row["set"] == nlohmann::json({"lora.alpha=8"}));
    REQUIRE(row["losses"].size() == 3);
    CHECK(row["segments"] == nlohmann::json({-1, 0, 1}));
    for (int domain : {0, 1})  // each is better known after its own segment than before it
      CHECK(row["own_losses"][domain + 1][domain] < row["own_losses"][domain][domain]);
    const bool shared = row["method"] == "shared";
    CHECK(row["births"].size() == (shared ? 1 : 2));
    std::uint64_t judged = 0, asked = 0;
    for (const auto& bin : row["calibration"][2]) judged += bin[0].get<std::uint64_t>();
    for (const auto& table : row["queries"][2])
      for (const auto& entry : table) asked += entry[1].get<std::uint64_t>();
    CHECK(judged == (row["method"] == "kpool" ? asked : 0));  // both domains own a slot; the others have no posterior
    CHECK(row["calibration"][0].empty());
    // Slots of their own leave the other domain alone.
    if (!shared) CHECK(row["own_losses"][2][0] == row["own_losses"][1][0]);
  }
  const std::string whole = fixture.results();
  std::ofstream(fixture.options.out, std::ios::binary) << whole.substr(0, whole.size() - 20);  // killed while it wrote
  CHECK(fixture.run().front() == "small: 1 of 6 runs to do");
  CHECK(fixture.rows().size() == 6);
  auto again = fixture.rows().back(), before = rows.back();
  again.erase("seconds"), before.erase("seconds");
  CHECK(again == before);
  CHECK(fixture.run().front() == "small: 0 of 6 runs to do");
  fixture.write_plan(plan_text("'lora.alpha' = 8\n"));
  const Status other = run_experiment(fixture.options, [](const std::string&) {});
  REQUIRE_FALSE(other);
  CHECK(other.error().fault == Fault::mismatch);
}

TEST_CASE("calibration counts records by tenths of their confidence") {
  Calibration calibration;
  calibration.add(std::vector{0.75, 0.25}, 0);
  calibration.add(std::vector{0.25, 0.75}, 0);
  calibration.add(std::vector{0.0, 1.0}, 1);
  calibration.add({}, 1);
  CHECK(calibration.table() == nlohmann::json::parse("[[2, 1.5, 1], [1, 1.0, 1]]"));
}

TEST_CASE("baselines train and answer as they say") {
  Fixture fixture;
  std::string text = plan_text("'baseline.rls_features' = 256\n");
  const std::string three = "'kpool', 'task-id', 'shared'";
  text.replace(text.find(three), three.size(), "'task-id', 'centroid', 'rls', 'softmax', 'softmax-balanced'");
  fixture.write_plan(text);
  fixture.run();
  const auto rows = fixture.rows();
  REQUIRE(rows.size() == 10);
  const auto& told = rows.front();
  for (const std::size_t i : {1, 2}) {  // taught with labels: the same training; these domains are easily told apart
    for (const char* same : {"own_losses", "assigned", "births", "owners"}) CHECK(rows[i][same] == told[same]);
    CHECK(rows[i]["queries"].back() == told["queries"].back());
    CHECK(rows[i]["queries"][1] != told["queries"][1]);  // the second domain is new: told says base, these say a slot
  }
  for (const std::size_t i : {3, 4}) {
    REQUIRE(rows[i]["births"].size() == 3);
    std::uint64_t records = 0;
    for (const auto& table : rows[i]["assigned"])
      for (const auto& entry : table) records += entry[1].get<std::uint64_t>();
    CHECK(records == rows[i]["records"]);
    CHECK(rows[i]["losses"][1][0] < rows[i]["losses"][0][0]);
    for (const auto& entry : rows[i]["queries"][0][0]) CHECK(entry[0] == 0);  // the base, before anything is open
    for (const auto& entry : rows[i]["queries"][2][0]) CHECK(entry[0] != 0);
  }
}
