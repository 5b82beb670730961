// bench_step MODEL.gguf [TOKENS SEGMENTS THREADS PRECISION REPEATS LAYERS DEVICE GRADIENTS FORWARD] [--json FILE]
// LAYERS: only so many of the last layers have an adapter (0: all).
// GRADIENTS, FORWARD: auto, int8 or full: how input gradients and the forward pass go through the frozen matrices.
// DEVICE: cpu or cuda; every time ends with a copy to the host, which waits for the device.
// Seconds of one training step and of its parts that stand alone, on random tokens: medians of one run.
// cpu_ms is the processor time of all threads in forward and backward: on a busy machine, with
// OMP_WAIT_POLICY=passive, cpu_ms / threads is what the step would take alone.
// breakdown_ms: forward and backward by what they work at, the medians of steps that are timed at each turn (Section of
// core/workspace.hpp); product has the adapter's part of the tiles in it, lora what the adapter costs besides; the rest
// is rows gathered, zeroed and copied. Then Signum and the adapter's copy in compute precision.
#include <array>
#include <ctime>
#include <random>

#include "bench/common.hpp"
#include "core/llama.hpp"
#include "core/signum.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

constexpr std::array kSections = {"product", "lora", "attention", "loss", "elementwise", "rest"};

/// Milliseconds of each section in one step.
std::array<double, kSections.size()> time_sections(Workspace& workspace, const std::function<void()>& step) {
  std::array<double, kSections.size()> spent{};
  std::size_t now = kSections.size() - 1;
  double since = seconds_now();
  const auto turn = [&](std::size_t next) {
    const double time = seconds_now();
    spent[now] += 1e3 * (time - since);
    now = next;
    since = time;
  };
  workspace.on_section = [&](Section section) { turn(static_cast<std::size_t>(section)); };
  step();
  turn(now);
  workspace.on_section = nullptr;
  return spent;
}

nlohmann::ordered_json breakdown(int repeats, Workspace& workspace, const std::function<void()>& step) {
  std::array<std::vector<double>, kSections.size()> all;
  for (int i = 0; i < repeats; ++i) {
    const auto spent = time_sections(workspace, step);
    for (std::size_t part = 0; part < spent.size(); ++part) all[part].push_back(spent[part]);
  }
  nlohmann::ordered_json medians;
  for (std::size_t part = 0; part < all.size(); ++part) medians[kSections[part]] = rounded(median(all[part]), 2);
  return medians;
}

}  // namespace

int main(int count, char** arguments) {
  Results results(count, arguments);
  choose_named_kernels();
  if (count < 2) {
    std::cerr << "usage: bench_step MODEL.gguf [TOKENS SEGMENTS THREADS PRECISION REPEATS LAYERS DEVICE GRADIENTS "
                 "FORWARD] [--json FILE]\n";
    return 64;
  }
  auto argument = [&](int i, const char* fallback) { return std::string(count > i ? arguments[i] : fallback); };
  const int tokens = std::atoi(argument(2, "512").c_str()), pieces = std::atoi(argument(3, "1").c_str());
  const int threads = std::atoi(argument(4, "2").c_str()), repeats = std::max(1, std::atoi(argument(6, "5").c_str()));
  BaseOptions options{.path = arguments[1], .precision = argument(5, "auto"), .device = argument(8, "cpu"),
                      .gradients = argument(9, "auto"), .forward = argument(10, "auto")};
  const auto base = value_or_exit(Base::load(options));
  const Base::Weights& weights = base->weights();
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
  Batch batch = make_batch(weights, segments);
  batch.int8 = weights.int8_forward;
  const StepPlan plan = plan_step(weights, layout, tokens, thread_count());
  Workspace workspace = make_workspace(weights);
  const double prepare = median_seconds(repeats, [&] { make_batch(weights, segments); });
  const double load = median_seconds(repeats, [&] { adapter.load(flat); });
  const double off = median_seconds(repeats, [&] { nats(weights, batch, nullptr, workspace).cpu(); });
  const double forward = median_seconds(repeats, [&] { nats(weights, batch, &adapter, workspace).cpu(); });
  const auto step = [&] { nats_and_gradient(weights, batch, adapter, plan, gradient, workspace).cpu(); };
  const double both = median_seconds(repeats, step);
  const std::clock_t start = std::clock();
  step();
  const double processor = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  auto parts = breakdown(repeats, workspace, step);
  const double update = median_seconds(repeats, [&] { signum_step(flat, momentum, gradient, {}, 1); });
  const double whole = prepare + load + both + update;
  parts["signum"] = rounded(1e3 * update, 2);
  parts["adapter"] = rounded(1e3 * load, 2);
  nlohmann::ordered_json result{
      {"tokens", tokens},
      {"segments", pieces},
      {"threads", threads},
      {"precision", weights.dtype == at::kFloat ? "float32" : "bfloat16"},
      {"gradients", base->int8_gradients() ? "int8" : "full"},
      {"forward", base->int8_forward() ? "int8" : "full"},
      {"device", weights.device.str()},
      {"batch_ms", rounded(1e3 * prepare, 2)},
      {"adapter_ms", rounded(1e3 * load, 2)},
      {"forward_base_ms", rounded(1e3 * off, 1)},
      {"forward_ms", rounded(1e3 * forward, 1)},
      {"forward_backward_ms", rounded(1e3 * both, 1)},
      {"cpu_ms", rounded(1e3 * processor, 1)},
      {"signum_ms", rounded(1e3 * update, 2)},
      {"step_ms", rounded(1e3 * whole, 1)},
      {"tokens_per_second", rounded(tokens / whole, 0)}};
  // A device computes while the host goes on: no parts there.
  if (workspace.operators() == Operators::tiles) result["breakdown_ms"] = parts;
  results.add(result);
  return 0;
}
