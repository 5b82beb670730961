// bench_learn MODEL.gguf FILE.jsonl [STEPS LEARNING_RATE HELD_OUT THREADS SEEDS LAYERS MOMENTUM]
// Trains one slot on the first records of a JSON Lines file (field "text") and prints the loss on its
// last HELD_OUT records, in nats per token, before and after; and the speed of the steps. Each with the momentum in
// float32 and in bfloat16 (or in MOMENTUM alone), and for SEEDS seeds: the adapter's, and from the second one on the
// order of the records.
// LAYERS: only so many of the last layers have an adapter (0: all).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "core/learner.hpp"
#include "core/score.hpp"
#include "core/tokenizer.hpp"

using namespace kpool;

namespace {

template <class T>
T value_or_exit(Result<T> result) {
  if (result) return std::move(*result);
  std::cerr << result.error().message << '\n';
  std::exit(exit_code(result.error().fault));
}

std::vector<Sample> read_samples(const std::string& path, const Tokenizer& tokenizer) {
  std::ifstream in(path);
  std::vector<Sample> samples;
  for (std::string line; std::getline(in, line);) {
    const auto record = nlohmann::json::parse(line);
    samples.push_back({{0, samples.size() + 1}, 0, tokenizer.encode(record.at("text").get<std::string>())});
    if (samples.back().tokens.size() < 2) samples.pop_back();
  }
  return samples;
}

double nats_per_token(Scorer& scorer, std::span<const Sample> samples) {
  double nats = 0, tokens = 0;
  for (const Score& score : scorer.score(samples)) {
    nats += score.nats;
    tokens += static_cast<double>(score.tokens);
  }
  return nats / tokens;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const char* name_of(MomentumType type) { return type == MomentumType::bfloat16 ? "bfloat16" : "float32"; }

void print(const StepReport& report) {
  std::printf("step %llu: loss %.4f", static_cast<unsigned long long>(report.step), report.loss);
  if (report.gain) std::printf(", gain %.4f", *report.gain);
  if (report.sharpness) std::printf(", sharpness %.6f", *report.sharpness);
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
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < training.size() && done < steps; ++i)
    for (const auto& report : learner->learn(0, training[i])) {
      print(report);
      ++done;
    }
  const double seconds = seconds_since(start);
  value_or_exit(scorer.use_adapter(learner->save(0), std::nullopt));
  std::printf("{\"momentum\": \"%s\", \"layers\": %u, \"seed\": %llu, \"steps\": %llu, \"learning_rate\": %g, "
              "\"before\": %.4f, \"after\": %.4f, \"tokens_per_second\": %.0f}\n",
              name_of(options.momentum_type), options.top_layers,
              static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(done),
              options.learning_rate, before, nats_per_token(scorer, evaluation),
              static_cast<double>(done) * options.tokens_per_step / seconds);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: bench_learn MODEL.gguf FILE.jsonl "
                 "[STEPS LEARNING_RATE HELD_OUT THREADS SEEDS LAYERS MOMENTUM]\n";
    return 64;
  }
  auto number = [&](int i, double fallback) { return count > i ? std::atof(arguments[i]) : fallback; };
  const auto held_out = static_cast<std::size_t>(number(5, 40));
  const auto base = value_or_exit(Base::load({arguments[1]}));
  auto samples = read_samples(arguments[2], *value_or_exit(make_bpe(base->file())));
  if (samples.size() <= held_out) {
    std::cerr << arguments[2] << " has too few records to hold " << held_out << " out.\n";
    return 65;
  }
  LearnerOptions options;
  options.learning_rate = number(4, 1e-3);
  options.threads = static_cast<std::uint32_t>(number(6, 2));
  options.top_layers = static_cast<std::uint32_t>(number(8, 0));
  const std::string only = count > 9 ? arguments[9] : "";
  const auto scorer = make_scorer({.threads = options.threads}, base);
  const std::span<Sample> training = std::span(samples).first(samples.size() - held_out);
  for (options.seed = 0; options.seed < static_cast<std::uint64_t>(number(7, 1)); ++options.seed) {
    std::mt19937_64 engine(options.seed);
    if (options.seed > 0) std::shuffle(training.begin(), training.end(), engine);
    for (const auto type : {MomentumType::float32, MomentumType::bfloat16}) {
      if (!only.empty() && only != name_of(type)) continue;
      options.momentum_type = type;
      run(base, *scorer, training, std::span(samples).last(held_out), options,
          static_cast<std::uint64_t>(number(3, 20)));
    }
  }
  return 0;
}
