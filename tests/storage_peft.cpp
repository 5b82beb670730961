#include "storage/peft.hpp"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/learner.hpp"
#include "core/safetensors.hpp"
#include "core/score.hpp"
#include "core/slot.hpp"
#include "storage/peft_config.hpp"
#include "storage/whole_directory.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;
using kpool::testing::TemporaryDirectory;

namespace {

namespace fs = std::filesystem;
const std::string kQ = "base_model.model.model.layers.0.self_attn.q_proj";
const std::string kDown = "base_model.model.model.layers.1.mlp.down_proj";

/// A blob as the learner saves it: rank 2, two modules, with momenta unless told otherwise.
class Slot {
 public:
  SafeTensors contents;

  explicit Slot(bool momenta = true) {
    for (const auto& module : {kQ, kDown}) {
      add(module + ".lora_A.weight", {2, 3});
      add(module + ".lora_B.weight", {4, 2});
      if (momenta) add("momentum." + module + ".lora_A.weight", {2, 3});
      if (momenta) add("momentum." + module + ".lora_B.weight", {4, 2});
    }
    contents.metadata = {{"rank", "2"}, {"alpha", "16"}, {"generation", "3"}, {"step", "41"}, {"base", "c0ffee"}};
  }
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    auto& values = values_.emplace_back();
    for (std::int64_t i = 0; i < shape[0] * shape[1]; ++i) values.push_back(0.25f * static_cast<float>(++count_));
    contents.tensors[name] = {"F32", shape, {reinterpret_cast<const char*>(values.data()), values.size() * 4}};
  }
  std::string blob() const { return write_safetensors(contents); }

 private:
  std::deque<std::vector<float>> values_;
  int count_ = 0;
};

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const fs::path& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

std::size_t entries_in(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

/// An exported slot whose configuration is changed by `change`; gives the reason of the refusal.
template <class Change>
std::string refusal(Change&& change) {
  TemporaryDirectory directory;
  const auto target = directory.file("adapter");
  REQUIRE(export_peft(Slot().blob(), target));
  change(fs::path(target));
  const auto imported = import_peft(target);
  if (imported) return "accepted";
  CHECK(imported.error().message.find(target) != std::string::npos);
  return imported.error().message;
}

std::string refused_config(const nlohmann::json& patch) {
  return refusal([&](const fs::path& target) {
    auto json = nlohmann::json::parse(read(target / "adapter_config.json"));
    json.update(patch);
    write(target / "adapter_config.json", json.dump());
  });
}

}  // namespace

TEST_CASE("peft: an exported slot comes back without its momenta", "[peft]") {
  TemporaryDirectory directory;
  const auto target = directory.file("adapter");
  REQUIRE(export_peft(Slot().blob(), target));
  const auto imported = import_peft(target);
  REQUIRE(imported);
  CHECK(*imported == [] {
    Slot bare(false);
    Slot full;
    for (auto& [name, tensor] : bare.contents.tensors) tensor = full.contents.tensors.at(name);
    return bare.blob();
  }());
  REQUIRE(export_peft(*imported, directory.file("again")));
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
    CHECK(read(fs::path(target) / name) == read(directory.file("again") + "/" + name));
}

TEST_CASE("peft: the configuration says what PEFT needs", "[peft]") {
  TemporaryDirectory directory;
  const auto target = directory.file("deep/er/adapter/");
  REQUIRE(export_peft(Slot().blob(), target));
  CHECK(entries_in(target) == 2);
  const auto json = nlohmann::json::parse(read(target + "adapter_config.json"));
  CHECK(json["peft_type"] == "LORA");
  CHECK(json["task_type"] == "CAUSAL_LM");
  CHECK(json["r"] == 2);
  CHECK(json["lora_alpha"].is_number_integer());
  CHECK(json["lora_alpha"] == 16);
  CHECK(json["target_modules"] == nlohmann::json{"down_proj", "q_proj"});
  CHECK(json["base_model_name_or_path"].is_null());
  const auto bytes = read(target + "adapter_model.safetensors");
  const auto tensors = parse_safetensors(bytes);
  REQUIRE(tensors);
  CHECK(tensors->tensors.size() == 4);
  CHECK(tensors->metadata.at("format") == "pt");
  CHECK(tensors->metadata.at("step") == "41");
  CHECK(tensors->metadata.at("base") == "c0ffee");
}

TEST_CASE("peft: an adapter of the top layers names them", "[peft]") {
  BaseShape shape;
  shape.layers = 4;
  shape.hidden = shape.ffn = 32;
  shape.heads = shape.kv_heads = 2;
  shape.head_width = 16;
  const LoraLayout layout(shape, 2, 3);
  const auto size = static_cast<std::size_t>(layout.size);
  const SlotState state{1, 1, std::vector<float>(size, 0.5f), zero_momentum(MomentumType::float32, size)};
  TemporaryDirectory directory;
  REQUIRE(export_peft(save_slot(state, layout, {16, "base"}), directory.file("top")));
  std::ifstream file(directory.file("top/adapter_config.json"));
  const auto config = nlohmann::json::parse(file);
  CHECK(config.at("layers_to_transform") == std::vector<int>{1, 2, 3});
  CHECK(config.at("layers_pattern") == "layers");
  const auto back = import_peft(directory.file("top"));
  REQUIRE(back);
  CHECK(parse_safetensors(*back)->tensors.size() == 2 * layout.places.size());
  CHECK_FALSE(restore_slot(save_slot(state, layout, {16, "base"}), LoraLayout(shape, 2, 2), {16, "base"},
                           MomentumType::float32));
}

TEST_CASE("peft: a directory that is in use is left alone", "[peft]") {
  TemporaryDirectory directory;
  const auto target = directory.file("adapter");
  fs::create_directory(target);
  REQUIRE(export_peft(Slot().blob(), target));  // empty: taken
  const auto before = read(fs::path(target) / "adapter_model.safetensors");
  const auto again = export_peft(Slot(false).blob(), target);
  REQUIRE_FALSE(again);
  CHECK(again.error().fault == Fault::usage);
  CHECK(read(fs::path(target) / "adapter_model.safetensors") == before);
  write(directory.file("plain"), "x");
  CHECK(export_peft(Slot().blob(), directory.file("plain")).error().fault == Fault::usage);
  const auto below = export_peft(Slot().blob(), directory.file("plain/adapter"));
  REQUIRE_FALSE(below);
  CHECK(below.error().fault == Fault::io);
  CHECK(export_peft(Slot().blob(), "").error().fault == Fault::usage);
  CHECK(entries_in(directory.path()) == 2);
}

TEST_CASE("peft: a half-written directory is never seen", "[peft]") {
  TemporaryDirectory directory;
  const auto target = directory.file("adapter");
  fs::create_directory(target + ".partial");  // what a crash left behind
  write(target + ".partial/adapter_config.json", "{");
  REQUIRE(write_whole_directory(target, {{"a", "1"}}));
  CHECK(entries_in(target) == 1);
  const auto failed = write_whole_directory(directory.file("b"), {{"a", "1"}, {"no/such", "2"}});
  REQUIRE_FALSE(failed);
  CHECK(failed.error().fault == Fault::io);
  CHECK(entries_in(directory.path()) == 1);
}

TEST_CASE("peft: a blob that is no slot is not exported", "[peft]") {
  using Catch::Contains;
  TemporaryDirectory directory;
  const auto failure = [&](const Slot& slot) {
    const auto done = export_peft(slot.blob(), directory.file("adapter"));
    REQUIRE_FALSE(done);
    CHECK(done.error().fault == Fault::bad_input);
    return done.error().message;
  };
  CHECK(export_peft("short", directory.file("adapter")).error().fault == Fault::bad_input);
  Slot slot;
  slot.contents.metadata["rank"] = "two";
  CHECK_THAT(failure(slot), Contains("rank is no number"));
  slot.contents.metadata["rank"] = "3";
  CHECK_THAT(failure(slot), Contains("does not fit the rank 3"));
  slot.contents.metadata.erase("rank");
  CHECK_THAT(failure(slot), Contains("lacks rank"));
  slot = Slot();
  slot.contents.tensors.erase(kQ + ".lora_A.weight");
  CHECK_THAT(failure(slot), Contains("no partner"));
  slot = Slot();
  slot.add("odd", {1, 1});
  CHECK_THAT(failure(slot), Contains("'odd'"));
  slot.contents.tensors.clear();
  CHECK_THAT(failure(slot), Contains("no adapter"));
  CHECK(fs::is_empty(directory.path()));
}

TEST_CASE("peft: adapters of another kind are refused", "[peft]") {
  using Catch::Contains;
  CHECK(refused_config({{"revision", "main"}}) == "accepted");
  CHECK_THAT(refused_config({{"peft_type", "IA3"}}), Contains("not LORA"));
  CHECK_THAT(refused_config({{"bias", "all"}}), Contains("bias"));
  CHECK_THAT(refused_config({{"use_dora", true}}), Contains("use_dora"));
  CHECK_THAT(refused_config({{"rank_pattern", {{"q_proj", 4}}}}), Contains("rank_pattern"));
  CHECK_THAT(refused_config({{"modules_to_save", {"lm_head"}}}), Contains("modules_to_save"));
  CHECK_THAT(refused_config({{"init_lora_weights", "pissa_niter_4"}}), Contains("init_lora_weights"));
  CHECK(refused_config({{"init_lora_weights", "gaussian"}}) == "accepted");
  for (const nlohmann::json& rank : nlohmann::json{0, "2", 1e9, -1})
    CHECK_THAT(refused_config({{"r", rank}}), Contains("r is not an integer"));
  CHECK_THAT(refused_config({{"r", 4}}), Contains("does not fit the rank 4"));
  CHECK_THAT(refused_config({{"lora_alpha", nullptr}}), Contains("lora_alpha"));
}

TEST_CASE("peft: a directory that is not whole is refused", "[peft]") {
  using Catch::Contains;
  CHECK(import_peft("/nonexistent").error().fault == Fault::missing);
  CHECK_THAT(refusal([](const fs::path& target) { write(target / "adapter_config.json", "{\"r\":"); }),
             Contains("not a JSON object"));
  CHECK_THAT(refusal([](const fs::path& target) { write(target / "adapter_model.safetensors", "short"); }),
             Contains("shorter than 8 bytes"));
  CHECK_THAT(refusal([](const fs::path& target) { fs::remove(target / "adapter_model.safetensors"); }),
             Contains("cannot be opened"));
  CHECK_THAT(refusal([](const fs::path& target) {
               fs::rename(target / "adapter_model.safetensors", target / "adapter_model.bin");
             }),
             Contains("pickle"));
  CHECK_THAT(refusal([](const fs::path& target) { write(target / "adapter_config.json", std::string(2 << 20, ' ')); }),
             Contains("1 MiB"));
}

TEST_CASE("peft: half precision is widened, rank-stabilised scaling brought into alpha", "[peft]") {
  TemporaryDirectory directory;
  const std::string halves("\x00\x3c\x00\xc0", 4), brains("\x80\x3f\x00\xc0", 4);  // 1 and -2 in both
  SafeTensors adapter;
  adapter.tensors = {{kQ + ".lora_A.weight", {"F16", {2, 1}, halves}},
                     {kQ + ".lora_B.weight", {"BF16", {1, 2}, brains}}};
  write(directory.file("adapter_model.safetensors"), write_safetensors(adapter));
  write(directory.file("adapter_config.json"), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "use_rslora": true,
      "base_model_name_or_path": "some/model"})");
  const auto imported = import_peft(directory.path());
  REQUIRE(imported);
  const auto slot = parse_safetensors(*imported);
  REQUIRE(slot);
  const float expected[] = {1, -2};
  for (const auto& [name, tensor] : slot->tensors) {
    CHECK(tensor.dtype == "F32");
    CHECK(tensor.data == std::string_view(reinterpret_cast<const char*>(expected), sizeof expected));
  }
  CHECK(std::stod(slot->metadata.at("alpha")) == Approx(8 * std::sqrt(2.0)));
  CHECK_FALSE(slot->metadata.contains("base"));
  CHECK(slot->metadata.at("generation") == "1");
  CHECK(slot->metadata.at("step") == "0");
}

TEST_CASE("peft: what a learner learned scores the same after export", "[peft]") {
  TemporaryDirectory directory;
  kpool::testing::write_tiny_model({}, directory.file("tiny.gguf"));
  const auto base = Base::load({directory.file("tiny.gguf"), "float32"});
  REQUIRE(base);
  LearnerOptions options;
  options.learning_rate = 0.01;
  options.tokens_per_step = 32;
  options.threads = 1;
  const auto learner = make_learner(options, *base);
  learner->open({1, 1, false});
  Sample text{{0, 1}};
  for (std::int32_t i = 0; i < 200; ++i) text.tokens.push_back(97 + i % 7);
  learner->learn(1, text);
  learner->flush();
  const auto blob = learner->save(1);
  REQUIRE(export_peft(blob, directory.file("adapter")));
  const auto imported = import_peft(directory.file("adapter"));
  REQUIRE(imported);

  const auto scorer = make_scorer({.threads = 1}, *base);
  const auto nats = [&] { return scorer->score(std::vector{text}).front().nats; };
  const double untrained = nats();
  REQUIRE(scorer->use_adapter(blob, std::nullopt));
  const double trained = nats();
  REQUIRE(scorer->use_adapter(*imported, std::nullopt));
  CHECK(nats() == trained);
  CHECK(trained < untrained - 1);
}
