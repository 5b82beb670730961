// bench_merge MODEL.gguf ONE.jsonl OTHER.jsonl [STEPS LEARNING_RATE HELD_OUT THREADS SEEDS]
// What merging two slots costs: each learns one file for STEPS steps, then the second goes over to the first. One
// JSON line per seed (of the adapters and the order of the records) with the losses of the base, of either adapter and
// of the merged one on the last HELD_OUT records of both files, in nats per token; agreement: cosine of the two changes
// of the base; discarded: share of the sum's squared norm that the rank has no room for.
#include <algorithm>
#include <array>
#include <random>

#include "bench/common.hpp"
#include "core/learner.hpp"

using namespace kpool;

namespace {

using Losses = std::array<double, 2>;  // by file

struct Text {
  std::vector<Sample> samples;
  std::span<const Sample> held_out;
};

Losses score(Scorer& scorer, const std::array<Text, 2>& texts) {
  Losses losses{};
  for (std::size_t i = 0; i < 2; ++i) losses[i] = rounded(nats_per_token(scorer, texts[i].held_out), 4);
  return losses;
}

void run(const std::shared_ptr<const Base>& base, Scorer& scorer, const std::array<Text, 2>& texts,
         const LearnerOptions& options, std::size_t steps, Results& results) {
  const auto learner = make_learner(options, base);
  nlohmann::ordered_json row{{"seed", options.seed}, {"steps", steps}, {"learning_rate", options.learning_rate}};
  scorer.use_base();
  row["base"] = score(scorer, texts);
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    learner->open({slot, slot + 1, false, std::nullopt});
    std::vector<Sample> training(texts[slot].samples.begin(),
                                 texts[slot].samples.end() - static_cast<std::ptrdiff_t>(texts[slot].held_out.size()));
    std::mt19937_64 engine(options.seed);
    std::shuffle(training.begin(), training.end(), engine);
    std::size_t done = 0;
    for (std::size_t i = 0; i < training.size() && done < steps; ++i) done += learner->learn(slot, training[i]).size();
    value_or_exit(scorer.use_adapter(learner->save(slot), std::nullopt));
    row[slot == 0 ? "one" : "other"] = score(scorer, texts);
  }
  const auto merge = learner->open({1, 3, false, 0});
  row["agreement"] = rounded(merge->agreement, 4);
  row["discarded"] = rounded(merge->discarded, 4);
  value_or_exit(scorer.use_adapter(learner->save(0), std::nullopt));
  row["merged"] = score(scorer, texts);
  results.add(row);
}

}  // namespace

int main(int argc, char** argv) {
  Results results(argc, argv);
  if (argc < 4) {
    std::fprintf(stderr, "usage: bench_merge MODEL.gguf ONE.jsonl OTHER.jsonl "
                         "[STEPS LEARNING_RATE HELD_OUT THREADS SEEDS] [--json FILE]\n");
    return 64;
  }
  const auto number = [&](int i, double fallback) { return argc > i ? std::atof(argv[i]) : fallback; };
  const auto base = value_or_exit(Base::load({argv[1]}));
  const auto tokenizer = value_or_exit(make_bpe(base->file()));
  const auto held_out = static_cast<std::size_t>(number(6, 40));
  std::array<Text, 2> texts;
  for (std::size_t i = 0; i < 2; ++i) {
    texts[i].samples = read_samples(argv[2 + i], *tokenizer);
    if (texts[i].samples.size() <= held_out) {
      std::fprintf(stderr, "%s has too few records to hold %zu out.\n", argv[2 + i], held_out);
      return 65;
    }
    texts[i].held_out = std::span(texts[i].samples).last(held_out);
  }
  LearnerOptions options{.slots = 2};
  options.learning_rate = number(5, 1e-3);
  options.threads = static_cast<std::uint32_t>(number(7, 2));
  options.gain_every = options.sharpness_every = options.rival_every = 0;
  const auto scorer = make_scorer({.threads = options.threads}, base);
  for (options.seed = 1; options.seed <= static_cast<std::uint64_t>(number(8, 1)); ++options.seed)
    run(base, *scorer, texts, options, static_cast<std::size_t>(number(4, 20)), results);
  return 0;
}
