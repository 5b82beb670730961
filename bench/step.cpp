// bench_step MODEL.gguf [TOKENS SEGMENTS THREADS PRECISION REPEATS LAYERS DEVICE]
// LAYERS: only so many of the last layers have an adapter (0: all).
// DEVICE: cpu or cuda; every time ends with a copy to the host, which waits for the device.
// Seconds of one training step and of its parts that stand alone, on random tokens: medians of one run.
// cpu_ms is the processor time of all threads in forward and backward: on a busy machine, with
// OMP_WAIT_POLICY=passive, cpu_ms / threads is what the step would take alone.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <random>

#include "core/llama.hpp"
#include "core/signum.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

double median_seconds(int repeats, const std::function<void()>& work) {
  std::vector<double> seconds;
  work();  // once to warm caches and compile kernels
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[repeats / 2];
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::cerr << "usage: bench_step MODEL.gguf [TOKENS SEGMENTS THREADS PRECISION REPEATS LAYERS DEVICE]\n";
    return 64;
  }
  auto argument = [&](int i, const char* fallback) { return std::string(count > i ? arguments[i] : fallback); };
  const int tokens = std::atoi(argument(2, "512").c_str()), pieces = std::atoi(argument(3, "1").c_str());
  const int threads = std::atoi(argument(4, "2").c_str()), repeats = std::atoi(argument(6, "5").c_str());
  auto base = Base::load({.path = arguments[1], .precision = argument(5, "auto"), .device = argument(8, "cpu")});
  if (!base) {
    std::cerr << base.error().message << '\n';
    return exit_code(base.error().fault);
  }
  const Base::Weights& weights = (*base)->weights();
  use_threads(static_cast<std::uint32_t>(threads));
  std::mt19937 engine(1);
  std::vector<std::vector<std::int32_t>> texts(pieces, std::vector<std::int32_t>(tokens / pieces));
  std::vector<Segment> segments;
  for (auto& text : texts) {
    for (auto& token : text) token = static_cast<std::int32_t>(engine() % weights.shape.vocabulary);
    segments.push_back({text, 1});
  }
  const LoraLayout layout(weights.shape, 8, std::atoi(argument(7, "0").c_str()));
  Adapter adapter(layout, weights.dtype, 2.0, weights.device);
  std::vector<float> flat(layout.size), momentum(layout.size), gradient(layout.size);
  draw_lora(layout, 1, 1, flat);
  const Batch batch = make_batch(weights, segments);
  const StepPlan plan = plan_step(weights, layout, tokens, thread_count());
  Workspace workspace = make_workspace(weights);
  const double prepare = median_seconds(repeats, [&] { make_batch(weights, segments); });
  const double load = median_seconds(repeats, [&] { adapter.load(flat); });
  const double off = median_seconds(repeats, [&] { nats(weights, batch, nullptr, workspace).cpu(); });
  const double forward = median_seconds(repeats, [&] { nats(weights, batch, &adapter, workspace).cpu(); });
  const auto step = [&] { nats_and_gradient(weights, batch, adapter, plan, gradient, workspace).cpu(); };
  const double both = median_seconds(repeats, step);
  const std::clock_t start = std::clock();
  nats_and_gradient(weights, batch, adapter, plan, gradient, workspace);
  const double processor = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const double update = median_seconds(repeats, [&] { signum_step(flat, momentum, gradient, {}, 1); });
  const double whole = prepare + load + both + update;
  std::printf("{\"tokens\": %d, \"segments\": %d, \"threads\": %d, \"precision\": \"%s\", \"device\": \"%s\", "
              "\"batch_ms\": %.2f, \"adapter_ms\": %.2f, \"forward_base_ms\": %.1f, \"forward_ms\": %.1f, "
              "\"forward_backward_ms\": %.1f, \"cpu_ms\": %.1f, \"signum_ms\": %.2f, \"step_ms\": %.1f, "
              "\"tokens_per_second\": %.0f}\n",
              tokens, pieces, threads, weights.dtype == at::kFloat ? "float32" : "bfloat16",
              weights.device.str().c_str(), 1e3 * prepare, 1e3 * load, 1e3 * off, 1e3 * forward, 1e3 * both,
              1e3 * processor, 1e3 * update, 1e3 * whole, tokens / whole);
  return 0;
}
