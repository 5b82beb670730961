// bench_learn MODEL.gguf FILE.jsonl [STEPS LEARNING_RATE HELD_OUT THREADS]
// Trains one slot on the first records of a JSON Lines file (field "text") and prints the loss on its
// last HELD_OUT records, in nats per token, before and after; and the speed of the steps.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

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

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: bench_learn MODEL.gguf FILE.jsonl [STEPS LEARNING_RATE HELD_OUT THREADS]\n";
    return 64;
  }
  auto number = [&](int i, double fallback) { return count > i ? std::atof(arguments[i]) : fallback; };
  const auto steps = static_cast<std::uint64_t>(number(3, 20));
  const auto held_out = static_cast<std::size_t>(number(5, 40));
  const auto threads = static_cast<std::uint32_t>(number(6, 2));
  const auto base = value_or_exit(Base::load({arguments[1]}));
  const auto tokenizer = value_or_exit(make_bpe(base->file()));
  const auto samples = read_samples(arguments[2], *tokenizer);
  if (samples.size() <= held_out) {
    std::cerr << arguments[2] << " has too few records to hold " << held_out << " out.\n";
    return 65;
  }
  const std::span<const Sample> evaluation = std::span(samples).last(held_out);
  const auto scorer = make_scorer({.threads = threads}, base);
  const double before = nats_per_token(*scorer, evaluation);
  LearnerOptions options;
  options.learning_rate = number(4, 1e-3);
  options.threads = threads;
  const auto learner = make_learner(options, base);
  learner->open({0, 1});
  std::vector<StepReport> reports;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < samples.size() - held_out && reports.size() < steps; ++i)
    for (auto& report : learner->learn(0, samples[i])) {
      std::printf("step %llu: loss %.4f", static_cast<unsigned long long>(report.step), report.loss);
      if (report.gain) std::printf(", gain %.4f", *report.gain);
      if (report.sharpness) std::printf(", sharpness %.6f", *report.sharpness);
      std::printf("\n");
      reports.push_back(std::move(report));
    }
  const double seconds = seconds_since(start);
  if (const auto used = scorer->use_adapter(learner->save(0), std::nullopt); !used) {
    std::cerr << used.error().message << '\n';
    return exit_code(used.error().fault);
  }
  std::printf("{\"steps\": %zu, \"learning_rate\": %g, \"before\": %.4f, \"after\": %.4f, "
              "\"tokens_per_second\": %.0f}\n",
              reports.size(), options.learning_rate, before, nats_per_token(*scorer, evaluation),
              static_cast<double>(reports.size()) * options.tokens_per_step / seconds);
  return 0;
}
