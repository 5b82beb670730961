// bench_train step MODEL.gguf PRECISION THREADS SEGMENTS IDS.json ADAPTER.safetensors
//                  [WEIGHTS ACTIVATIONS_MB GRADIENTS FORWARD]
//   Our side of bench/train.py. Writes the adapter that training starts from, then answers one line of JSON to each
//   line that it reads: "step" trains one step through a real learner (packing, batch, adapter, forward, backward,
//   Signum), "gemm" times the frozen products of such a step alone.
// bench_train memory MODEL.gguf PRECISION THREADS SEGMENTS IDS.json [WEIGHTS ACTIVATIONS_MB GRADIENTS FORWARD]
//   Nothing but training: a learner with five open slots, each trained twice; then the peak of this process.
// bench_train activations MODEL.gguf PRECISION THREADS SEGMENTS IDS.json WEIGHTS ACTIVATIONS_MB ROUNDS
//   What it costs to hold a step's workspace to ACTIVATIONS_MB: a learner that is held to it and one that is not take
//   turns. Medians over the rounds, of the milliseconds and of the ratio within a round.
// WEIGHTS: bf16 or quantised. ACTIVATIONS_MB: limit of a step's workspace, 0: as much as is fastest.
// GRADIENTS: auto, int8 or full, as base.gradients. FORWARD: auto, int8 or full, as base.forward.
// IDS.json: {"ids": [...]}. A step takes the next 512 of them, as SEGMENTS records of equal length.
#include <ctime>
#include <fstream>
#include <iostream>

#include "bench/common.hpp"
#include "bench/frozen_products.hpp"
#include "core/learner.hpp"
#include "core/lora.hpp"
#include "core/slot.hpp"
#include "core/threads.hpp"

using namespace kpool;

namespace {

constexpr std::int64_t tokens_per_step = 512, rank = 8;
constexpr double alpha = 16;

struct Setting {
  std::shared_ptr<const Base> base;
  std::uint32_t threads = 2;
  std::size_t segments = 1;
  std::size_t activation_bytes = 0;
  std::vector<std::int32_t> ids;
};

/// Of all threads of this process.
double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

/// optional: the arguments after those that a mode must have.
Setting read_setting(char** arguments, std::vector<std::string> optional) {
  Setting setting;
  setting.threads = static_cast<std::uint32_t>(whole_number(arguments[4]));
  setting.segments = whole_number(arguments[5]);
  std::ifstream in(arguments[6]);
  setting.ids = nlohmann::json::parse(in).at("ids").get<std::vector<std::int32_t>>();
  BaseOptions options{arguments[2], arguments[3]};
  if (optional.size() >= 2) {
    options.weights = optional[0];
    setting.activation_bytes = whole_number(optional[1]) << 20;
  }
  if (optional.size() >= 3) options.gradients = optional[2];
  if (optional.size() >= 4) options.forward = optional[3];
  setting.base = value_or_exit(Base::load(options));
  const auto least = static_cast<std::size_t>(tokens_per_step);
  if (setting.ids.size() >= least && setting.segments > 0 && least % setting.segments == 0) return setting;
  std::cerr << arguments[6] << " must hold at least 512 token ids, and SEGMENTS divide 512.\n";
  std::exit(exit_code(Fault::usage));
}

/// Gain and sharpness, which no peer measures, are off; the daemon's default spends one more forward pass in eight
/// steps and two in 64 on them.
std::unique_ptr<Learner> make_plain_learner(const Setting& setting, std::uint32_t slots, std::size_t activation_bytes) {
  LearnerOptions options;
  options.slots = slots;
  options.rank = static_cast<std::uint32_t>(rank);
  options.alpha = alpha;
  options.learning_rate = 1e-3;  // as the peer (bench/train_peer.py)
  options.tokens_per_step = static_cast<std::uint32_t>(tokens_per_step);
  options.gain_every = options.sharpness_every = 0;
  options.threads = setting.threads;
  options.activation_bytes = activation_bytes;
  return make_learner(options, setting.base);
}

StepReport train(Learner& learner, const Setting& setting, std::uint32_t slot, std::size_t step) {
  const std::size_t batches = setting.ids.size() / tokens_per_step, length = tokens_per_step / setting.segments;
  auto next = setting.ids.begin() + static_cast<std::ptrdiff_t>(step % batches * tokens_per_step);
  std::vector<StepReport> reports;
  for (std::size_t i = 0; i < setting.segments; ++i, next += static_cast<std::ptrdiff_t>(length))
    reports = learner.learn(slot, {{0, step * setting.segments + i + 1}, 0, {next, next + length}});
  if (reports.size() == 1 && reports[0].refused.empty()) return std::move(reports[0]);
  std::cerr << "The learner did not train exactly one step on " << tokens_per_step << " tokens.\n";
  std::exit(1);
}

/// A slot as after some steps, so that the loss depends on A and B from the first step on.
std::string initial_slot(const Base& base) {
  const LoraLayout layout(base.shape(), rank);
  const auto size = static_cast<std::size_t>(layout.size);
  SlotState state{1, 0, std::vector<float>(size), std::vector<float>(size)};
  std::vector<float> signs(size);
  draw_lora(layout, 1, 1, state.weights);
  draw_signs(1, 1, 1, signs);
  for (const LoraPlace& place : layout.places)
    for (std::int64_t i = place.b; i < place.b + place.out * rank; ++i) state.weights[i] = 0.002f * signs[i];
  return save_slot(state, layout, {alpha, base.fingerprint()});
}

int serve(const Setting& setting, const char* adapter_path) {
  const std::string slot = initial_slot(*setting.base);
  std::ofstream(adapter_path, std::ios::binary) << slot;
  const auto learner = make_plain_learner(setting, 1, setting.activation_bytes);
  value_or_exit(learner->restore(0, slot));
  use_threads(setting.threads);
  FrozenProducts products(*setting.base, tokens_per_step);
  std::cout << nlohmann::json{{"parameters", products.parameters()}} << std::endl;
  std::size_t steps = 0;
  for (std::string command; std::getline(std::cin, command);) {
    if (command == "gemm") {
      std::cout << products.measure() << std::endl;
      continue;
    }
    const double start = seconds_now(), processor = processor_seconds();
    const StepReport report = train(*learner, setting, 0, steps++);
    const double seconds = seconds_now() - start;
    std::cout << nlohmann::json{{"seconds", seconds},
                                {"cpu_seconds", processor_seconds() - processor},
                                {"loss", report.loss},
                                {"counted", report.tokens}}
              << std::endl;
  }
  return 0;
}

double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}

int measure_memory(const Setting& setting) {
  constexpr std::uint32_t slots = 5;
  const double loaded = peak_mb();
  const auto learner = make_plain_learner(setting, slots, setting.activation_bytes);
  for (std::uint32_t slot = 0; slot < slots; ++slot) learner->open({slot, slot + 1});
  for (std::size_t step = 0; step < 2 * slots; ++step)
    train(*learner, setting, static_cast<std::uint32_t>(step % slots), step);
  std::cout << nlohmann::json{{"slots", slots},
                              {"loaded_mb", rounded(loaded, 1)},
                              {"peak_memory_mb", rounded(peak_mb(), 1)}}
            << std::endl;
  return 0;
}

int compare_activations(const Setting& setting, std::size_t rounds) {
  const auto free = make_plain_learner(setting, 1, 0), held = make_plain_learner(setting, 1, setting.activation_bytes);
  std::vector<double> free_ms, held_ms, ratio;
  for (Learner* learner : {free.get(), held.get()}) learner->open({0, 1});
  for (std::size_t round = 0; round <= rounds; ++round) {
    const double first = 1e3 * seconds([&] { train(*free, setting, 0, round); });
    const double second = 1e3 * seconds([&] { train(*held, setting, 0, round); });
    if (round == 0) continue;  // warms up
    free_ms.push_back(first);
    held_ms.push_back(second);
    ratio.push_back(second / first);
  }
  std::cout << nlohmann::ordered_json{{"slots", 1},
                                      {"rounds", rounds},
                                      {"unlimited_ms", rounded(median(free_ms), 1)},
                                      {"limited_ms", rounded(median(held_ms), 1)},
                                      {"limited_over_unlimited", rounded(median(ratio), 3)}}
            << std::endl;
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string mode = count > 1 ? arguments[1] : "";
  choose_named_kernels();
  const auto optional = [&](int from) { return std::vector<std::string>(arguments + from, arguments + count); };
  const auto some = [&](int from) { return count == from || (count >= from + 2 && count <= from + 4); };
  if (mode == "step" && some(8)) return serve(read_setting(arguments, optional(8)), arguments[7]);
  if (mode == "memory" && some(7)) return measure_memory(read_setting(arguments, optional(7)));
  if (mode == "activations" && count == 10)
    return compare_activations(read_setting(arguments, {arguments[7], arguments[8]}), whole_number(arguments[9]));
  std::cerr << "usage: bench_train step MODEL.gguf PRECISION THREADS SEGMENTS IDS.json ADAPTER.safetensors "
               "[WEIGHTS ACTIVATIONS_MB GRADIENTS FORWARD]\n"
               "       bench_train memory MODEL.gguf PRECISION THREADS SEGMENTS IDS.json "
               "[WEIGHTS ACTIVATIONS_MB GRADIENTS FORWARD]\n"
               "       bench_train activations MODEL.gguf PRECISION THREADS SEGMENTS IDS.json WEIGHTS ACTIVATIONS_MB "
               "ROUNDS\n";
  return exit_code(Fault::usage);
}
