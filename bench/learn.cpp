// bench_learn MODEL.gguf FILE.jsonl
//             [STEPS LEARNING_RATE HELD_OUT THREADS SEEDS LAYERS MOMENTUM GUARD ALPHA FORWARD]
// Trains one slot on the first records of a JSON Lines file (field "text") and prints the loss on its
// last HELD_OUT records, in nats per token, before and after; and the speed of the steps. Each with the momentum in
// float32 and in bfloat16 (MOMENTUM: both, or one alone), and for SEEDS seeds: the adapter's, and from the second on
// the order of the records.
// GUARD: off, warn or auto, as train.rate_guard. FORWARD: auto, int8 or full, as base.forward.
// LAYERS: only so many of the last layers have an adapter (0: all).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>

#include "bench/common.hpp"
#include "core/learner.hpp"

using namespace kpool;

namespace {

const char* name_of(MomentumType type) { return type == MomentumType::bfloat16 ? "bfloat16" : "float32"; }

void print(const StepReport& report) {
  std::printf("step %llu: loss %.4f", static_cast<unsigned long long>(report.step), report.loss);
  if (report.gain) std::printf(", gain %.4f", *report.gain);
  if (report.sharpness) std::printf(", sharpness %.6f", *report.sharpness);
  if (report.cliff) std::printf(", rate %.3g, cliff %.3g", report.rate, *report.cliff);
  std::printf("\n");
}

/// Trains a new slot for so many steps and scores it.
void run(const std::shared_ptr<const Base>& base, Scorer& scorer, std::span<const Sample> training,
         std::span<const Sample> evaluation, const LearnerOptions& options, std::uint64_t steps) {
  scorer.use_base();
  const double before = nats_per_token(scorer, evaluation);
  const auto learner = make_learner(options, base);
  learner->open({0, 1});
  std::uint64_t done = 0;
  const double start = seconds_now();
  for (std::size_t i = 0; i < training.size() && done < steps; ++i)
    for (const auto& report : learner->learn(0, training[i])) {
      print(report);
      ++done;
    }
  const double spent = seconds_now() - start;
  value_or_exit(scorer.use_adapter(learner->save(0), std::nullopt));
  std::printf("{\"momentum\": \"%s\", \"layers\": %u, \"seed\": %llu, \"steps\": %llu, \"learning_rate\": %g, "
              "\"before\": %.4f, \"after\": %.4f, \"tokens_per_second\": %.0f}\n",
              name_of(options.momentum_type), options.top_layers,
              static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(done),
              options.learning_rate, before, nats_per_token(scorer, evaluation),
              static_cast<double>(done) * options.tokens_per_step / spent);
}

}  // namespace

int main(int count, char** arguments) {
  choose_named_kernels();
  if (count < 3) {
    std::cerr << "usage: bench_learn MODEL.gguf FILE.jsonl "
                 "[STEPS LEARNING_RATE HELD_OUT THREADS SEEDS LAYERS MOMENTUM GUARD ALPHA FORWARD]\n";
    return 64;
  }
  auto number = [&](int i, double fallback) { return count > i ? std::atof(arguments[i]) : fallback; };
  const auto held_out = static_cast<std::size_t>(number(5, 40));
  const std::string forward = count > 12 ? arguments[12] : "auto";
  const auto base = value_or_exit(Base::load({.path = arguments[1], .forward = forward}));
  auto samples = read_samples(arguments[2], *value_or_exit(make_bpe(base->file())));
  if (samples.size() <= held_out) {
    std::cerr << arguments[2] << " has too few records to hold " << held_out << " out.\n";
    return 65;
  }
  LearnerOptions options;
  options.learning_rate = number(4, options.learning_rate);
  options.alpha = number(11, options.alpha);
  const std::string guard = count > 10 ? arguments[10] : "off";
  options.rate_guard = guard == "auto"   ? RateGuardMode::automatic
                       : guard == "warn" ? RateGuardMode::warn
                                         : RateGuardMode::off;
  options.threads = static_cast<std::uint32_t>(number(6, 2));
  options.top_layers = static_cast<std::uint32_t>(number(8, 0));
  const std::string only = count > 9 ? arguments[9] : "both";
  const auto scorer = make_scorer({.threads = options.threads}, base);
  const std::span<Sample> training = std::span(samples).first(samples.size() - held_out);
  for (options.seed = 0; options.seed < static_cast<std::uint64_t>(number(7, 1)); ++options.seed) {
    std::mt19937_64 engine(options.seed);
    if (options.seed > 0) std::shuffle(training.begin(), training.end(), engine);
    for (const auto type : {MomentumType::float32, MomentumType::bfloat16}) {
      if (only != "both" && only != name_of(type)) continue;
      options.momentum_type = type;
      run(base, *scorer, training, std::span(samples).last(held_out), options,
          static_cast<std::uint64_t>(number(3, 20)));
    }
  }
  return 0;
}
