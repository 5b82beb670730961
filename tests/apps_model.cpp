#include "apps/kpoolctl_model.hpp"

#include <fstream>
#include <sstream>

#include "apps/kpoolctl_pool.hpp"
#include "tests/apps_pool.hpp"

using namespace kpool;
using kpool::testing::TinyPool;

namespace {

using Work = Status (*)(const ModelOptions&, const Console&);

struct Ran {
  Status status;
  std::vector<nlohmann::ordered_json> lines;
  std::string complaints;
};

Ran run(Work work, const ModelOptions& options, const std::string& input) {
  std::istringstream in(input);
  std::ostringstream out, complaints;
  Ran ran{work(options, {in, out, complaints}), {}, {}};
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) ran.lines.push_back(nlohmann::ordered_json::parse(line));
  ran.complaints = complaints.str();
  return ran;
}

std::string record(const std::string& text, const std::string& id = "a") {
  return nlohmann::json{{"id", id}, {"text", text}}.dump() + "\n";
}

ModelOptions options_of(const TinyPool& pool, const std::string& under = "base") {
  ModelOptions options;
  options.model = pool.model;
  options.precision = "float32";
  options.threads = 1;
  options.store = pool.path;
  options.under = under;
  return options;
}

double nats(const TinyPool& pool, const std::string& under, const std::string& text) {
  const Ran ran = run(model_score, options_of(pool, under), record(text));
  if (!ran.status) FAIL(ran.status.error().message);
  return ran.lines.at(0)["nats"].get<double>();
}

}  // namespace

TEST_CASE("info tells shape, tensor types and fingerprint of a model") {
  TinyPool pool;
  std::istringstream in;
  std::ostringstream text, json, complaints;
  testing::must(model_info(options_of(pool), true, {in, json, complaints}));
  const auto info = nlohmann::json::parse(json.str());
  CHECK(info["architecture"] == "llama");
  CHECK(info["layers"] == 2);
  CHECK(info["fingerprint"] == pool.base->fingerprint());
  std::int64_t parameters = 0;
  for (const auto& sum : info["types"]) parameters += sum["parameters"].get<std::int64_t>();
  CHECK(info["parameters"] == parameters);
  testing::must(model_info(options_of(pool), false, {in, text, complaints}));
  CHECK(text.str().find(pool.base->fingerprint()) != std::string::npos);
}

TEST_CASE("tokenize and embed give what the encoder gives, and keep the other fields") {
  TinyPool pool;
  const auto expected = pool.encode(testing::first_text);
  const std::string input = record(testing::first_text, "one") + "broken\n" + record("the", "two");
  const Ran tokens = run(model_tokenize, options_of(pool), input);
  CHECK(tokens.status.error().fault == Fault::bad_input);
  REQUIRE(tokens.lines.size() == 2);
  CHECK(tokens.lines[0]["ids"].get<std::vector<std::int32_t>>() == expected.tokens);
  CHECK(tokens.lines[0].dump().starts_with(R"({"id":"one","ids":[)"));
  CHECK(tokens.complaints.find("standard input:2: broken JSON") == 0);
  ModelOptions options = options_of(pool);
  options.encoder = "base:1";
  const Ran embedded = run(model_embed, options, input);  // "the" is one token: nothing to embed
  REQUIRE(embedded.lines.size() == 1);
  CHECK(embedded.lines[0]["embedding"].get<std::vector<float>>() == expected.embedding);
  CHECK(embedded.complaints.find("standard input:3: not embedded") != std::string::npos);
}

TEST_CASE("a slot predicts what it learned better than the base does, and the other slot does not") {
  TinyPool pool;
  const double base = nats(pool, "base", testing::first_text);
  CHECK(nats(pool, "slot:0", testing::first_text) < 0.9 * base);
  CHECK(nats(pool, "slot:1", testing::first_text) > nats(pool, "slot:0", testing::first_text) + 0.1 * base);
}

TEST_CASE("a base that stays quantised scores and embeds alike") {
  TinyPool pool;
  const std::string input = record(testing::first_text);
  ModelOptions options = options_of(pool, "slot:0");
  options.encoder = "base:1";
  const Ran dense = run(model_score, options, input), vectors = run(model_embed, options, input);
  options.weights = "quantised";
  const Ran mapped = run(model_score, options, input), same = run(model_embed, options, input);
  REQUIRE(mapped.status);
  CHECK(mapped.lines.at(0)["nats"].get<double>() == Approx(dense.lines.at(0)["nats"].get<double>()).epsilon(1e-5));
  CHECK(same.lines.at(0) == vectors.lines.at(0));
  options.weights = "int8";
  CHECK(run(model_score, options, input).status.error().fault == Fault::bad_config);
}

TEST_CASE("auto scores each record under its slot, in the order of the input") {
  TinyPool pool;
  const std::string novel = std::string("\xe4\xb8\xad\xe6\x96\x87\xe5\xad\x97\xe7\xac\xa6");
  const auto input = record(testing::first_text, "1") + record(novel, "2") + record("x", "3") +
                     record(testing::first_text, "4");
  const Ran ran = run(model_score, options_of(pool, "auto"), input);
  if (!ran.status) FAIL(ran.status.error().message);
  REQUIRE(ran.lines.size() == 4);
  for (int i = 0; i < 4; ++i) CHECK(ran.lines[i]["id"] == std::to_string(i + 1));
  CHECK(ran.lines[0]["slot"] == 0);
  CHECK(ran.lines[0]["confidence"] == 1.0);  // of the one slot in use
  CHECK(ran.lines[0]["nats"].get<double>() == Approx(nats(pool, "slot:0", testing::first_text)).epsilon(1e-5));
  CHECK(ran.lines[1]["slot"].is_null());
  CHECK_FALSE(ran.lines[1].contains("confidence"));
  CHECK(ran.lines[1]["nats"].get<double>() == Approx(nats(pool, "base", novel)).epsilon(1e-5));
  CHECK(ran.lines[2]["tokens"] == 0);
  CHECK(ran.complaints.find("4 records, ") == 0);
  CHECK(ran.complaints.find("slot 0: 2") != std::string::npos);
  CHECK(ran.complaints.find("base: 2") != std::string::npos);
}

TEST_CASE("an exported slot scores as the slot does") {
  TinyPool pool;
  const std::string directory = pool.directory.file("adapter");
  testing::must(export_slot(pool.path, 0, directory));
  CHECK(nats(pool, directory, testing::first_text) == nats(pool, "slot:0", testing::first_text));
  CHECK(export_slot(pool.path, 4, pool.directory.file("other")).error().message.find("it has 0, 1") !=
        std::string::npos);
  CHECK_FALSE(export_slot(pool.path, 0, directory));  // the directory is in use
}

TEST_CASE("a prompt is context: its tokens do not count") {
  TinyPool pool;
  const std::string input = R"({"text":"the cat sat","prompt":"the cat"})" "\n" R"({"text":"the cat sat"})" "\n";
  const Ran ran = run(model_score, options_of(pool), input);
  REQUIRE(ran.lines.size() == 2);
  CHECK(ran.lines[0]["tokens"] == 4);  // of " sat"
  CHECK(ran.lines[0]["nats"] < ran.lines[1]["nats"]);
}

TEST_CASE("wrong models, pools, encoders and adapters are named") {
  TinyPool pool;
  const auto fault = [&](const ModelOptions& options) {
    const Ran ran = run(model_score, options, record("the cat"));
    return ran.status ? Fault::usage : ran.status.error().fault;
  };
  ModelOptions options = options_of(pool, "slot:0");
  testing::TinyModel other;
  other.seed = 2;
  options.model = pool.directory.file("other.gguf");
  testing::write_tiny_model(other, options.model);
  CHECK(fault(options) == Fault::mismatch);
  options.model = pool.directory.file("none.gguf");
  CHECK(fault(options) == Fault::missing);
  std::ofstream(options.model) << "no model";
  CHECK(fault(options) == Fault::bad_input);
  CHECK(fault(options_of(pool, "slot:3")) == Fault::missing);
  CHECK(run(model_score, options_of(pool, "slot:x"), "").status.error().message.find("names no slot") !=
        std::string::npos);
  CHECK(fault(options_of(pool, pool.directory.file("nothing"))) == Fault::missing);
  options = options_of(pool, "auto");
  options.encoder = "base:2";
  CHECK(fault(options) == Fault::mismatch);
  std::string& identity = pool.values["identity/encoding"];
  identity = identity.substr(0, identity.rfind(','));  // as a version wrote it that pooled tokens otherwise
  testing::must(testing::must(open_store("rocksdb", pool.path))->commit({{"identity/encoding", identity}}, {}));
  CHECK(run(model_score, options_of(pool, "auto"), record("the cat")).status.error().message.find(
            "encoder base:1, not with base:1, tokens weighted by position") != std::string::npos);
  options.store = pool.directory.file("nothing");
  CHECK(fault(options) == Fault::missing);
}
