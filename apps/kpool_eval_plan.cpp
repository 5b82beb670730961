#include "apps/kpool_eval_plan.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "apps/kpoolctl_digest.hpp"
#include "config/load.hpp"

namespace kpool {
namespace {

constexpr std::string_view baseline_prefix = "baseline.";
const std::vector<std::string> known_methods = {"kpool", "task-id", "shared", "centroid", "rls", "softmax",
                                                "softmax-balanced"};

Error wrong(std::string message) { return {Fault::bad_config, std::move(message)}; }

std::string join(const std::vector<std::string>& values) {
  std::string all;
  for (const auto& value : values) all += (all.empty() ? "" : ", ") + value;
  return all;
}

/// Reads the keys of one table; what was not asked for is an error in the end.
class Table {
 public:
  Table(const std::string& file, const toml::table* table) : file_(file), table_(table) {}

  template <class T>
  void read(const char* key, T& value) {
    const toml::node* node = take(key);
    if (!node) return;
    if (const auto found = node->value<T>()) value = *found;
    else fail(*node, std::string(key) + " has another type");
  }
  void read(const char* key, std::uint64_t& value) {
    auto whole = static_cast<std::int64_t>(value);
    read(key, whole);
    if (whole < 1) fail(*table_->get(key), std::string(key) + " must be at least 1");
    else value = static_cast<std::uint64_t>(whole);
  }
  template <class T>
  void read_list(const char* key, std::vector<T>& values) {
    const toml::node* node = take(key);
    if (!node) return;
    values.clear();
    if (const auto* array = node->as_array())
      for (const auto& item : *array)
        if (const auto found = item.value<T>()) values.push_back(*found);
    if (!node->is_array() || values.size() != node->as_array()->size() || values.empty())
      fail(*node, std::string(key) + " must be a list that is not empty, of one type");
  }
  void read_choice(const char* key, std::string& value, const std::vector<std::string>& choices) {
    read(key, value);
    if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
    if (const auto* node = table_->get(key)) fail(*node, std::string(key) + " is one of: " + join(choices));
  }
  const toml::table* read_table(const char* key) {
    const toml::node* node = take(key);
    if (node && !node->is_table()) fail(*node, std::string(key) + " must be a table");
    return node ? node->as_table() : nullptr;
  }
  void fail(const toml::node& node, const std::string& what) {
    const auto& begin = node.source().begin;
    if (status_)
      status_ = wrong(file_ + ":" + std::to_string(begin.line) + ":" + std::to_string(begin.column) + ": " + what);
  }
  Status finish() {
    if (table_)
      for (const auto& [key, node] : *table_)
        if (!taken_.contains(std::string(key.str()))) fail(node, "unknown key \"" + std::string(key.str()) + "\"");
    return status_;
  }

 private:
  const toml::node* take(const char* key) {
    taken_.insert(key);
    return table_ ? table_->get(key) : nullptr;
  }
  const std::string& file_;
  const toml::table* table_;
  std::set<std::string> taken_;
  Status status_ = Done{};
};

/// A scalar as the configuration's flags take it.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return nlohmann::json(number->get()).dump();
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  return std::nullopt;
}

Status read_stream(Table& table, StreamPlan& stream) {
  table.read_list("domains", stream.domains);
  table.read_choice("shape", stream.shape, {"blocks", "shuffled", "both"});
  table.read_choice("order", stream.order, {"given", "seed"});
  table.read_choice("sources", stream.sources, {"first", "mixed", "in turn", "unseen", "split"});
  table.read_choice("prompts", stream.prompts, {"masked", "learned"});
  table.read_choice("gateways", stream.gateways, {"one", "per domain"});
  table.read("rounds", stream.rounds);
  table.read("tokens_per_domain", stream.tokens_per_domain);
  table.read_list("shares", stream.shares);
  table.read("held_out_tokens", stream.held_out_tokens);
  table.read("learn", stream.learn);
  if (auto done = table.finish(); !done) return done;
  if (stream.domains.empty()) return wrong("the plan's stream names no domains");
  if (!stream.shares.empty() && stream.shape == "blocks") return wrong("shares are of what is shuffled: set shape");
  if (!stream.shares.empty() && stream.shares.size() != stream.domains.size())
    return wrong("the plan's stream has " + std::to_string(stream.domains.size()) + " domains, but " +
                 std::to_string(stream.shares.size()) + " shares");
  if (stream.sources == "unseen" && stream.learn)
    return wrong("unseen sources are for routing alone: set learn = false");
  return Done{};
}

void read_settings(Table& top, const toml::table* settings, Plan& plan) {
  if (!settings) return;
  for (const auto& [key, node] : *settings) {
    const auto text = text_of(node);
    if (text) plan.settings.emplace_back(key.str(), *text);
    else top.fail(node, "settings are single values under whole keys, as in \"lora.rank\" = 8");
  }
}

void read_grid(Table& top, const toml::table* grid, Plan& plan) {
  if (!grid) return;
  for (const auto& [key, node] : *grid) {
    std::vector<std::string> values;
    if (const auto* array = node.as_array())
      for (const auto& item : *array)
        if (const auto text = text_of(item)) values.push_back(*text);
    if (values.empty())
      top.fail(node, "the grid has lists of values under whole keys, as in \"routing.slots\" = [4, 5]");
    plan.grid.emplace_back(key.str(), std::move(values));
  }
}

Result<std::string> read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error{Fault::missing, "cannot read the plan " + path};
  return std::string(std::istreambuf_iterator<char>(in), {});
}

Status set_baseline(BaselineOptions& options, const std::string& name, const std::string& value) {
  const auto choose = [&](std::string& target, const std::string& one, const std::string& other) -> Status {
    target = value;
    if (value == one || value == other) return Done{};
    return wrong("baseline." + name + " is " + one + " or " + other + ", not " + value);
  };
  if (name == "gate_choice") return choose(options.gate_choice, "argmax", "sampled");
  if (name == "optimiser") return choose(options.optimiser, "signum", "adamw");
  const std::map<std::string, std::pair<double*, double>> numbers = {  // with the least that is allowed
      {"rls_features", {&options.rls_features, 1}},
      {"rls_ridge", {&options.rls_ridge, 1e-12}},
      {"gate_learning_rate", {&options.gate_learning_rate, 0}},
      {"gate_balance", {&options.gate_balance, 0}}};
  const auto found = numbers.find(name);
  if (found == numbers.end()) return wrong("unknown key \"baseline." + name + "\"");
  auto& [target, least] = found->second;
  const auto [stop, fault] = std::from_chars(value.data(), value.data() + value.size(), *target);
  if (fault == std::errc{} && stop == value.data() + value.size() && *target >= least && *target < 1e9) return Done{};
  return wrong("baseline." + name + " is a number, at least " + std::to_string(least) + ", not " + value);
}

}  // namespace

Result<Plan> read_plan(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return text.error();
  const toml::parse_result parsed = toml::parse(*text, path);
  if (!parsed) {
    const auto& begin = parsed.error().source().begin;
    return wrong(path + ":" + std::to_string(begin.line) + ":" + std::to_string(begin.column) + ": " +
                 std::string(parsed.error().description()));
  }
  Plan plan;
  Digest digest;
  digest.add(*text);
  plan.hash = digest.finish();
  Table top(path, &parsed.table());
  std::vector<std::int64_t> seeds{1};
  top.read("name", plan.name);
  top.read("question", plan.question);
  top.read("margin", plan.margin);
  top.read_list("methods", plan.methods);
  top.read_list("seeds", seeds);
  Table stream(path, top.read_table("stream"));
  read_settings(top, top.read_table("settings"), plan);
  read_grid(top, top.read_table("grid"), plan);
  if (auto done = top.finish(); !done) return done.error();
  if (auto done = read_stream(stream, plan.stream); !done) return done.error();
  plan.seeds.assign(seeds.begin(), seeds.end());
  for (const std::string& method : plan.methods) {
    if (std::find(known_methods.begin(), known_methods.end(), method) == known_methods.end())
      return wrong(path + ": methods are " + join(known_methods) + ", not " + method);
    if (method.starts_with("softmax") && !plan.stream.learn)
      return wrong(path + ": " + method + " learns from losses, which a stream without learning lacks");
  }
  if (plan.name.empty() || plan.methods.empty()) return wrong(path + ": a plan has a name and methods");
  return plan;
}

std::string RunPlan::name() const {
  std::string text = method;
  for (const auto& [key, value] : cell) text += " " + key + "=" + value;
  return text + " seed=" + std::to_string(seed);
}

Result<std::vector<RunPlan>> list_runs(const Plan& plan, const Assignments& overrides) {
  std::vector<Assignments> cells{{}};
  for (const auto& [key, values] : plan.grid) {
    std::vector<Assignments> wider;
    for (const Assignments& cell : cells)
      for (const std::string& value : values) {
        wider.push_back(cell);
        wider.back().emplace_back(key, value);
      }
    cells = std::move(wider);
  }
  std::vector<RunPlan> runs;
  for (const std::uint64_t seed : plan.seeds)
    for (const Assignments& cell : cells)
      for (const std::string& method : plan.methods) {
        std::vector<std::string> flags;
        BaselineOptions baseline;
        for (const Assignments* some : {&plan.settings, &cell, &overrides})
          for (const auto& [key, value] : *some) {
            if (!key.starts_with(baseline_prefix)) flags.push_back(key + "=" + value);
            else if (auto set = set_baseline(baseline, key.substr(baseline_prefix.size()), value); !set)
              return set.error();
          }
        auto loaded = load_config({}, {}, flags);
        if (!loaded) return loaded.error();
        if (!plan.stream.learn && loaded->config.routing.merge_agreement > 0)
          return wrong("routing.merge_agreement is of adapters, which a stream without learning lacks");
        loaded->config.engine.seed = seed;
        runs.push_back({method, seed, cell, std::move(loaded->config), baseline});
      }
  return runs;
}

}  // namespace kpool
