// bench_quantised compare MODEL.gguf FILE.jsonl [THREADS ROUNDS]
//   A base that stays quantised against the same base expanded when it is loaded, in one process: in each round each
//   trains one step of 512 tokens of the file's texts, in turns; then both score the last 40 texts under their slot.
//   Medians over the rounds of the ratio within a round, in wall and processor time, and the nats per token.
// bench_quantised step MODEL.gguf WEIGHTS [THREADS STEPS BUDGET_MB]
//   One base alone, WEIGHTS bf16 or quantised, one slot of rank 8 and steps of 512 random tokens: seconds, memory, and
//   the share of the GEMM limit measured in the same run. BUDGET_MB bounds the activations (0: as much as is fastest).
// Prints one line of JSON, to FILE as well with --json FILE.
#include <cmath>
#include <ctime>
#include <filesystem>
#include <random>

#include "bench/common.hpp"
#include "bench/frozen_products.hpp"
#include "core/learner.hpp"
#include "core/threads.hpp"

using namespace kpool;

namespace {

constexpr std::size_t kTokens = 512, kHeldOut = 40;

struct Time {
  double wall, processor;  ///< seconds
};

Time now() {
  return {seconds_now(), static_cast<double>(std::clock()) / CLOCKS_PER_SEC};
}

/// VmHWM, RssAnon, RssFile of this process.
double status_mb(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  return 0;
}

LearnerOptions options_of(std::uint32_t threads, std::size_t activation_bytes) {
  LearnerOptions options;
  options.slots = 1;
  options.tokens_per_step = kTokens;
  options.gain_every = options.sharpness_every = 0;
  options.activation_bytes = activation_bytes;
  options.threads = threads;
  return options;
}

/// One base and what is done with it.
struct Side {
  Side(std::shared_ptr<const Base> loaded, std::uint32_t threads, std::size_t activation_bytes = 0)
      : base(std::move(loaded)), learner(make_learner(options_of(threads, activation_bytes), base)) {
    learner->open({0, 1});
  }
  /// One step. Ends the program where it is refused.
  StepReport train(const std::vector<std::int32_t>& tokens) {
    const Time start = now();
    auto reports = learner->learn(0, {{0, ++records}, 0, tokens});
    const Time end = now();
    if (reports.size() != 1 || !reports[0].refused.empty()) {
      std::cerr << "The learner did not train one step.\n";
      std::exit(1);
    }
    times.push_back({end.wall - start.wall, end.processor - start.processor});
    return std::move(reports[0]);
  }
  std::shared_ptr<const Base> base;
  std::unique_ptr<Learner> learner;
  std::uint64_t records = 0;
  std::vector<Time> times;
};

double held_out_nats(const Side& side, std::uint32_t threads, std::span<const Sample> samples) {
  const auto scorer = make_scorer({.threads = threads}, side.base);
  value_or_exit(scorer->use_adapter(side.learner->save(0), std::nullopt));
  return nats_per_token(*scorer, samples);
}

int compare(const std::string& model, const std::string& texts, std::uint32_t threads, std::size_t rounds,
            Results& results) {
  Side dense(value_or_exit(Base::load({model})), threads);
  Side mapped(value_or_exit(Base::load({model, "auto", -1, "quantised"})), threads);
  const auto samples = read_samples(texts, *value_or_exit(make_bpe(dense.base->file())));
  std::vector<std::int32_t> stream;
  for (std::size_t i = 0; i + kHeldOut < samples.size(); ++i)
    stream.insert(stream.end(), samples[i].tokens.begin(), samples[i].tokens.end());
  if (stream.size() < kTokens) {
    std::cerr << texts << " has too few texts to hold " << kHeldOut << " out.\n";
    return exit_code(Fault::bad_input);
  }
  std::vector<double> wall, processor;
  for (std::size_t round = 0; round <= rounds; ++round) {
    const std::size_t first = round % (stream.size() / kTokens) * kTokens;
    const std::vector<std::int32_t> tokens(stream.begin() + static_cast<std::ptrdiff_t>(first),
                                           stream.begin() + static_cast<std::ptrdiff_t>(first + kTokens));
    for (Side* side : round % 2 ? std::array{&dense, &mapped} : std::array{&mapped, &dense}) side->train(tokens);
    if (round == 0) continue;  // warms up
    wall.push_back(mapped.times.back().wall / dense.times.back().wall);
    processor.push_back(mapped.times.back().processor / dense.times.back().processor);
  }
  const auto evaluation = std::span(samples).last(kHeldOut);
  const double expected = held_out_nats(dense, threads, evaluation);
  const double ours = held_out_nats(mapped, threads, evaluation);
  std::vector<double> dense_ms;
  for (const Time& time : std::span(dense.times).subspan(1)) dense_ms.push_back(1e3 * time.wall);
  results.add({{"what", "compare"},
               {"threads", threads},
               {"rounds", rounds},
               {"bf16_ms", median(dense_ms)},
               {"quantised_over_bf16", median(wall)},
               {"quantised_over_bf16_cpu", median(processor)},
               {"held_out_bf16_nats", expected},
               {"held_out_quantised_nats", ours},
               {"held_out_difference_nats", ours - expected}});
  return 0;
}

int step(const std::string& model, const std::string& weights, std::uint32_t threads, std::size_t steps,
         std::size_t budget, Results& results) {
  const double start = now().wall;
  Side side(value_or_exit(Base::load({model, "auto", -1, weights})), threads, budget << 20);
  const double loaded = now().wall - start, loaded_mb = status_mb("VmHWM");
  std::mt19937 engine(1);
  std::vector<std::int32_t> tokens(kTokens);
  std::vector<double> wall, processor, losses;
  for (std::size_t i = 0; i <= steps; ++i) {
    for (auto& token : tokens) token = static_cast<std::int32_t>(engine() % side.base->shape().vocabulary);
    losses.push_back(side.train(tokens).loss);
    const Time& spent = side.times.back();
    std::cerr << "step " << i << ": " << spent.wall << " s, " << spent.processor << " s of CPU\n";
    if (i == 0) continue;  // maps the file's pages and warms up
    wall.push_back(spent.wall);
    processor.push_back(spent.processor);
  }
  nlohmann::ordered_json result{
      {"what", "step"},
      {"model", std::filesystem::path(model).filename()},
      {"weights", weights},
      {"activations_limit_mb", budget},
      {"threads", threads},
      {"steps", steps},
      {"load_seconds", loaded},
      {"loaded_mb", loaded_mb},
      {"step_seconds", median(wall)},
      {"step_cpu_seconds", median(processor)},
      {"samples_seconds", wall},
      {"tokens_per_second", kTokens / median(wall)},
      {"peak_memory_mb", status_mb("VmHWM")},
      {"anonymous_mb", status_mb("RssAnon")},
      {"mapped_mb", status_mb("RssFile")},
      {"first_loss", losses.front()},
      {"log_vocabulary", std::log(side.base->shape().vocabulary)}};
  const auto limit = FrozenProducts(*side.base, kTokens).measure();
  result["limit_seconds"] = limit["model_shapes_seconds"];
  result["share_of_limit"] = limit["model_shapes_seconds"].get<double>() / median(wall);
  result["share_of_limit_cpu"] = limit["model_shapes_cpu_seconds"].get<double>() / median(processor);
  results.add(result);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  Results results(count, arguments);
  choose_named_kernels();
  const std::string mode = count > 3 ? arguments[1] : "";
  auto number = [&](int i, std::size_t fallback) { return count > i ? whole_number(arguments[i]) : fallback; };
  const auto threads = static_cast<std::uint32_t>(number(4, 2));
  if (mode == "compare" || mode == "step") use_threads(threads);
  if (mode == "compare") return compare(arguments[2], arguments[3], threads, number(5, 9), results);
  if (mode == "step") return step(arguments[2], arguments[3], threads, number(5, 5), number(6, 0), results);
  std::cerr << "usage: bench_quantised compare MODEL.gguf FILE.jsonl [THREADS ROUNDS] [--json FILE]\n"
               "       bench_quantised step MODEL.gguf WEIGHTS [THREADS STEPS BUDGET_MB] [--json FILE]\n";
  return exit_code(Fault::usage);
}
