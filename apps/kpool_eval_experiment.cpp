#include "apps/kpool_eval_experiment.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <set>

#include "actors/models.hpp"
#include "apps/kpool_eval_run.hpp"

namespace kpool {
namespace {

using nlohmann::ordered_json;
using Say = std::function<void(const std::string&)>;

/// The names of the runs that are there. A last line that was cut short by a kill is taken off.
Result<std::set<std::string>> read_results(const std::string& path, const Plan& plan) {
  std::set<std::string> names;
  std::ifstream in(path, std::ios::binary);
  if (!in) return names;
  std::uintmax_t whole = 0;
  for (std::string line; std::getline(in, line) && !in.eof();) {
    const auto row = ordered_json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("run"))
      return Error{Fault::bad_input, path + " holds a line that is no result; choose another --out"};
    if (row.value("plan", "") != plan.hash)
      return Error{Fault::mismatch, path + " holds results of another plan; choose another --out"};
    names.insert(row["run"].get<std::string>());
    whole = static_cast<std::uintmax_t>(in.tellg());
  }
  in.close();
  if (truncate(path.c_str(), static_cast<off_t>(whole)) != 0)
    return Error{Fault::io, path + " cannot be written"};
  return names;
}

class Results {
 public:
  explicit Results(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "ab")) {}
  ~Results() {
    if (file_) std::fclose(file_);
  }
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;
  Status append(const ordered_json& row) {
    const std::string line = row.dump() + "\n";
    if (file_ && std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0 &&
        fsync(fileno(file_)) == 0)
      return Done{};
    return Error{Fault::io, path_ + " cannot be written"};
  }

 private:
  const std::string path_;
  std::FILE* file_;
};

/// Base and domains for one run; kept while the next one needs the same.
class Loader {
 public:
  Loader(const ExperimentOptions& options, const StreamPlan& stream) : options_(options), stream_(stream) {}
  Result<Materials> load(const Config& config) {
    const std::string base = config.base.path + "\n" + config.base.precision + config.base.weights +
                             config.base.gradients + config.base.forward;
    const std::string encoder = base + "\n" + config.encoder.kind + std::to_string(config.encoder.tokens_max) +
                                config.encoder.products;
    if (encoder == loaded_) return materials_;
    auto opened = Base::load(base_options(config, -1));
    if (!opened) return opened.error();
    EncoderOptions options = encoder_options(config);
    options.threads = config.train.threads;
    auto embedding = make_encoder(options, *opened);
    if (!embedding) return embedding.error();
    auto domains = load_domains(stream_, options_.data, **embedding);
    if (!domains) return domains.error();
    domains_ = *std::move(domains);
    materials_ = {*opened, &domains_, (*embedding)->width()};
    loaded_ = encoder;
    return materials_;
  }

 private:
  const ExperimentOptions& options_;
  const StreamPlan& stream_;
  std::string loaded_;
  std::vector<Domain> domains_;
  Materials materials_;
};

std::string time_text(double seconds) {
  char text[32];
  if (seconds < 90) std::snprintf(text, sizeof text, "%.0f s", seconds);
  else if (seconds < 5400) std::snprintf(text, sizeof text, "%.0f min", seconds / 60);
  else std::snprintf(text, sizeof text, "%.1f h", seconds / 3600);
  return text;
}

std::string outcome_text(const ordered_json& row) {
  if (!row.contains("losses")) return std::to_string(row["births"].size()) + " births";
  double sum = 0;
  for (const auto& loss : row["losses"].back()) sum += loss.get<double>();
  char text[32];
  std::snprintf(text, sizeof text, "mean loss %.4f", sum / static_cast<double>(row["losses"].back().size()));
  return text;
}

Result<Assignments> overrides_of(const ExperimentOptions& options) {
  Assignments overrides;
  if (!options.model.empty()) overrides.emplace_back("base.path", options.model);
  for (const std::string& setting : options.settings) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos)
      return Error{Fault::usage, "--set " + setting + " is not section.key=value"};
    overrides.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  return overrides;
}

Status run_missing(const ExperimentOptions& options, const Plan& plan, const std::vector<RunPlan>& runs,
                   const Say& say) {
  auto there = read_results(options.out, plan);
  if (!there) return there.error();
  Results results(options.out);
  Loader loader(options, plan.stream);
  const auto missing = std::count_if(runs.begin(), runs.end(),
                                     [&](const RunPlan& run) { return !there->contains(run.name()); });
  say(plan.name + ": " + std::to_string(missing) + " of " + std::to_string(runs.size()) + " runs to do");
  double seconds = 0;
  std::ptrdiff_t done = 0;
  for (const RunPlan& run : runs) {
    if (there->contains(run.name())) continue;
    const auto materials = loader.load(run.config);
    if (!materials) return materials.error();
    auto row = carry_out(run, plan.stream, *materials);
    if (!row) return row.error();
    (*row)["plan"] = plan.hash;
    (*row)["version"] = KPOOL_VERSION;
    (*row)["base"] = materials->base->fingerprint();
    if (!options.settings.empty()) (*row)["set"] = options.settings;
    if (auto written = results.append(*row); !written) return written;
    seconds += (*row)["seconds"].get<double>();
    ++done;
    say(std::to_string(done) + "/" + std::to_string(missing) + " " + run.name() + ": " + outcome_text(*row) + ", " +
        time_text((*row)["seconds"]) + "; about " +
        time_text(seconds / static_cast<double>(done) * static_cast<double>(missing - done)) + " left");
  }
  return Done{};
}

}  // namespace

Status run_experiment(const ExperimentOptions& options, const Say& say) {
  const auto plan = read_plan(options.plan);
  if (!plan) return plan.error();
  const auto overrides = overrides_of(options);
  if (!overrides) return overrides.error();
  const auto runs = list_runs(*plan, *overrides);
  if (!runs) return runs.error();
  if (!options.list) return run_missing(options, *plan, *runs, say);
  for (const RunPlan& run : *runs) say(run.name());
  return Done{};
}

}  // namespace kpool
