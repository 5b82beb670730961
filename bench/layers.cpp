// bench_layers MODEL.gguf [TOKENS THREADS ROUNDS]
// What adapters on the top layers alone save. In each round, in turns: a training step with the adapter on all layers,
// on 4/5, 2/3, 1/2, 1/3 and 1/6 of them; the same step where the last quarter of the tokens counts (a record with a
// prompt); the lowest layers alone, as the encoder base:13 runs them; and the full step on one thread. Medians over
// the rounds, of the milliseconds and of the ratio to the full step within a round, one line of JSON each. Loss:
// bench_learn.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <random>

#include "bench/common.hpp"
#include "core/llama.hpp"
#include "core/signum.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

constexpr std::int64_t kEncoderLayers = 13;

/// One slot's adapter on the top layers, and its step.
struct Trained {
  Trained(const Base::Weights& weights, std::int64_t layers, std::int64_t tokens)
      : layout(weights.shape, 8, layers), adapter(layout, weights.dtype, 2.0), flat(layout.size), momentum(layout.size),
        gradient(layout.size), plan(plan_step(weights, layout, tokens, thread_count())) {
    draw_lora(layout, 1, 1, flat);
  }

  void step(const Base::Weights& weights, const Batch& batch, Workspace& workspace) {
    adapter.load(flat);
    nats_and_gradient(weights, batch, adapter, plan, gradient, workspace);
    signum_step(flat, momentum, gradient, {}, 1);
  }

  LoraLayout layout;
  Adapter adapter;
  std::vector<float> flat, momentum, gradient;
  StepPlan plan;
};

struct Case {
  std::string name;
  std::int64_t layers;
  std::function<void()> work;
  std::vector<double> ms = {}, ratio = {};
};

/// The first case is what the others are compared with.
void measure(std::vector<Case>& cases, int rounds) {
  for (Case& item : cases) item.work();  // once to warm caches and compile kernels
  for (int i = 0; i < rounds; ++i)
    for (Case& item : cases) {
      item.ms.push_back(1e3 * seconds(item.work));
      item.ratio.push_back(item.ms.back() / cases.front().ms.back());
    }
}

}  // namespace

int main(int count, char** arguments) {
  choose_named_kernels();
  if (count < 2) {
    std::cerr << "usage: bench_layers MODEL.gguf [TOKENS THREADS ROUNDS]\n";
    return 64;
  }
  auto number = [&](int i, int fallback) { return count > i ? std::atoi(arguments[i]) : fallback; };
  const int tokens = number(2, 512), rounds = std::max(1, number(4, 5));
  const auto base = Base::load({arguments[1]});
  if (!base) {
    std::cerr << base.error().message << '\n';
    return exit_code(base.error().fault);
  }
  const Base::Weights& weights = (*base)->weights();
  const auto threads = static_cast<std::uint32_t>(number(3, 2));
  use_threads(1);
  Trained alone(weights, weights.shape.layers, tokens);
  use_threads(threads);
  std::mt19937 engine(1);
  std::vector<std::int32_t> text(static_cast<std::size_t>(tokens));
  for (auto& token : text) token = static_cast<std::int32_t>(engine() % weights.shape.vocabulary);
  const Segment whole{text, 1}, prompted{text, tokens - tokens / 4};
  Batch batch = make_batch(weights, {&whole, 1}), completion = make_batch(weights, {&prompted, 1});
  batch.int8 = completion.int8 = weights.int8_forward;
  Workspace workspace = make_workspace(weights);
  const std::int64_t all = weights.shape.layers;
  std::vector<std::unique_ptr<Trained>> trained;
  std::vector<Case> cases;
  for (const std::int64_t layers : {all, all * 4 / 5, all * 2 / 3, all / 2, all / 3, all / 6}) {
    Trained& one = *trained.emplace_back(std::make_unique<Trained>(weights, layers, tokens));
    cases.push_back({"step", layers, [&] { one.step(weights, batch, workspace); }});
  }
  cases.push_back({"completion", all, [&] { trained.front()->step(weights, completion, workspace); }});
  std::vector<Int8Layer> kept;
  if (weights.prefers_int8) kept = int8_layers(weights, std::min(kEncoderLayers, all));
  const auto encode = [&] {
    hidden_states(weights, batch, std::min(kEncoderLayers, all), nullptr, workspace, kept);
  };
  cases.push_back({"encoder", std::min(kEncoderLayers, all), encode});
  cases.push_back({"one thread", all, [&] {
                     use_threads(1);
                     alone.step(weights, batch, workspace);
                     use_threads(threads);
                   }});
  measure(cases, rounds);
  for (const Case& item : cases)
    std::printf("{\"what\": \"%s\", \"layers\": %d, \"of\": %d, \"tokens\": %d, \"rounds\": %d, \"ms\": %.1f, "
                "\"ratio\": %.3f}\n",
                item.name.c_str(), static_cast<int>(item.layers), static_cast<int>(all), tokens, rounds,
                median(item.ms), median(item.ratio));
  return 0;
}
