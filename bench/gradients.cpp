// bench_gradients MODEL.gguf FILE.jsonl [STEPS BATCHES THREADS] [--json FILE]
// How exact gradients are: of an adapter that was trained for STEPS steps on the first records of a JSON Lines file
// (field "text"), by batches of 512 tokens of the records that follow, in bfloat16 with input gradients in full and in
// 8-bit integers, each against float32. Per batch and way: the relative length of the difference, the cosine, and the
// share of parameters whose sign, all that Signum sees, agrees: of all, and of the half with the larger gradients.
#include <algorithm>
#include <cmath>

#include "bench/common.hpp"
#include "core/llama.hpp"
#include "core/signum.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

constexpr std::size_t kTokens = 512;

class Way {
 public:
  Way(const std::string& model, const std::string& precision, const std::string& gradients)
      : base_(value_or_exit(Base::load({.path = model, .precision = precision, .gradients = gradients}))),
        layout_(base_->shape(), 8), adapter_(layout_, base_->weights().dtype, 8.0),
        workspace_(make_workspace(base_->weights())) {}

  const Base& base() const { return *base_; }
  const LoraLayout& layout() const { return layout_; }

  std::vector<float> gradient(std::span<const float> flat, std::span<const std::int32_t> tokens) {
    const Segment segment{tokens, 1};
    std::vector<float> gradient(static_cast<std::size_t>(layout_.size));
    adapter_.load(flat);
    const StepPlan plan = plan_step(base_->weights(), layout_, kTokens, thread_count());
    nats_and_gradient(base_->weights(), make_batch(base_->weights(), {&segment, 1}), adapter_, plan, gradient,
                      workspace_);
    return gradient;
  }

 private:
  std::shared_ptr<const Base> base_;
  LoraLayout layout_;
  Adapter adapter_;
  Workspace workspace_;
};

nlohmann::ordered_json compare(const std::vector<float>& measured, const std::vector<float>& exact) {
  double difference = 0, square = 0, other = 0, product = 0;
  std::vector<float> sizes;
  for (const float x : exact) sizes.push_back(std::fabs(x));
  std::nth_element(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2), sizes.end());
  const float middle = sizes[sizes.size() / 2];
  std::size_t agree = 0, large = 0, large_agree = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double x = measured[i], y = exact[i];
    difference += (x - y) * (x - y), square += y * y, other += x * x, product += x * y;
    const bool same = std::signbit(x) == std::signbit(y);
    agree += same;
    if (std::fabs(exact[i]) > middle) ++large, large_agree += same;
  }
  const auto share = [](std::size_t part, std::size_t whole) {
    return rounded(static_cast<double>(part) / static_cast<double>(whole), 5);
  };
  return {{"distance", rounded(std::sqrt(difference / square), 5)},
          {"cosine", rounded(product / std::sqrt(square * other), 6)},
          {"signs", share(agree, exact.size())},
          {"signs_of_larger_half", share(large_agree, large)}};
}

}  // namespace

int main(int count, char** arguments) {
  choose_named_kernels();
  Results results(count, arguments);
  if (count < 3) {
    std::cerr << "usage: bench_gradients MODEL.gguf FILE.jsonl [STEPS BATCHES THREADS] [--json FILE]\n";
    return 64;
  }
  auto number = [&](int i, int fallback) { return count > i ? std::max(1, std::atoi(arguments[i])) : fallback; };
  const auto steps = static_cast<std::size_t>(number(3, 12)), batches = static_cast<std::size_t>(number(4, 5));
  use_threads(static_cast<std::uint32_t>(number(5, 2)));
  Way exact(arguments[1], "float32", "full"), full(arguments[1], "bfloat16", "full"),
      int8(arguments[1], "bfloat16", "int8");
  std::vector<std::int32_t> tokens;
  for (const Sample& sample : read_samples(arguments[2], *value_or_exit(make_bpe(exact.base().file()))))
    tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
  if (tokens.size() < (steps + batches) * kTokens) {
    std::cerr << arguments[2] << " has too few tokens for so many steps and batches.\n";
    return 65;
  }
  const std::span<const std::int32_t> all = tokens;
  std::vector<float> flat(static_cast<std::size_t>(exact.layout().size)), momentum(flat.size());
  draw_lora(exact.layout(), 1, 1, flat);
  for (std::size_t i = 0; i < steps; ++i) {
    const auto gradient = exact.gradient(flat, all.subspan(i * kTokens, kTokens));
    signum_step(flat, momentum, gradient, {.learning_rate = 5e-4}, 1);
  }
  for (std::size_t i = steps; i < steps + batches; ++i) {
    const auto batch = all.subspan(i * kTokens, kTokens);
    const auto wanted = exact.gradient(flat, batch);
    results.add({{"batch", i - steps},
                 {"bfloat16", compare(full.gradient(flat, batch), wanted)},
                 {"int8", compare(int8.gradient(flat, batch), wanted)}});
  }
  return 0;
}
