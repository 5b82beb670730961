#include "core/adamw.hpp"

#include <catch2/catch.hpp>

#include "core/learner.hpp"
#include "core/safetensors.hpp"
#include "core/threads.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;

namespace {

constexpr AdamWOptions plain{.learning_rate = 0.1};

Sample cycle(std::uint64_t seq, std::int32_t letter) {
  Sample sample{{0, seq}};
  for (std::size_t i = 0; i < 64; ++i) sample.tokens.push_back(static_cast<std::int32_t>((seq + i) % 7) + letter);
  return sample;
}

std::unique_ptr<Learner> make(Optimiser optimiser) {
  LearnerOptions options{.slots = 2, .rank = 4, .alpha = 8, .learning_rate = 0.01, .optimiser = optimiser,
                         .tokens_per_step = 64};
  options.gain_every = options.sharpness_every = options.rival_every = 0;
  options.threads = 1;
  auto learner = make_learner(options, kpool::testing::tiny_base());
  for (std::uint32_t slot = 0; slot < 2; ++slot) learner->open({slot, slot + 1});
  return learner;
}

/// Losses before each of so many updates.
std::vector<double> losses(Learner& learner, std::uint32_t slot, std::int32_t letter, std::uint64_t steps) {
  std::vector<double> all;
  for (std::uint64_t i = 0; i < steps; ++i) all.push_back(learner.learn(slot, cycle(i, letter)).at(0).loss);
  return all;
}

}  // namespace

TEST_CASE("two steps of AdamW as computed by hand", "[adamw]") {
  std::vector<float> weights{1, 1};
  AdamWMoments moments(2);
  const AdamWOptions options{.learning_rate = 0.1, .weight_decay = 0.5};
  adamw_step(weights, moments, std::vector<float>{2, 0}, options, 1);
  // m = 0.2, v = 0.004; corrected 2 and 4: the gradient's sign. 0.95 x 1 - 0.1
  CHECK(weights[0] == Approx(0.85));
  CHECK(weights[1] == Approx(0.95));  // without a gradient the decay alone
  CHECK(moments.first[0] == Approx(0.2));
  CHECK(moments.second[0] == Approx(0.004));
  adamw_step(weights, moments, std::vector<float>{-1, 0}, options, 0.5);
  // m = 0.08, v = 0.004996; corrected 0.08 / 0.19 and 0.004996 / 0.001999. 0.975 x 0.85 - 0.05 x 0.42105 / 1.58089
  CHECK(weights[0] == Approx(0.8154331));
  CHECK(moments.steps == 2);
}

TEST_CASE("AdamW's first step moves a weight by the learning rate, whatever the gradient's size", "[adamw]") {
  std::vector<float> weights{0, 0, 0};
  AdamWMoments moments(3);
  adamw_step(weights, moments, std::vector<float>{1e-3f, -50, 1e-8f}, plain, 1);
  CHECK(weights[0] == Approx(-0.1));
  CHECK(weights[1] == Approx(0.1));
  CHECK(weights[2] == Approx(-0.05));  // a gradient as small as epsilon: half of it
}

TEST_CASE("AdamW's result does not depend on the number of threads", "[adamw]") {
  const std::size_t n = 50'003;
  const auto run = [n](std::uint32_t threads) {
    use_threads(threads);
    std::vector<float> weights(n, 1), gradient(n);
    AdamWMoments moments(n);
    for (std::size_t i = 0; i < n; ++i) gradient[i] = static_cast<float>(i * 37 % 101) - 50;
    for (int step = 0; step < 3; ++step) adamw_step(weights, moments, gradient, plain, 1);
    return weights;
  };
  CHECK(run(1) == run(3));
}

TEST_CASE("a slot under AdamW learns, and not as under Signum", "[adamw]") {
  const auto adamw = losses(*make(Optimiser::adamw), 0, 97, 20), signum = losses(*make(Optimiser::signum), 0, 97, 20);
  CHECK(adamw.front() == signum.front());
  CHECK(adamw.back() < adamw.front() - 1);
  CHECK(adamw.back() != signum.back());
}

TEST_CASE("an evicted slot's moments do not reach its next domain", "[adamw]") {
  const auto evicted = make(Optimiser::adamw), fresh = make(Optimiser::adamw);
  losses(*evicted, 0, 97, 10);
  for (const auto& learner : {evicted.get(), fresh.get()}) learner->open({0, 3, true});
  CHECK(losses(*evicted, 0, 105, 4) == losses(*fresh, 0, 105, 4));
}

TEST_CASE("a slot that takes another one over starts its moments anew", "[adamw]") {
  const auto merged = make(Optimiser::adamw), alone = make(Optimiser::adamw);
  for (const auto& learner : {merged.get(), alone.get()}) losses(*learner, 0, 97, 10);
  merged->open({1, 3, false, 0});
  const auto after = losses(*merged, 0, 97, 2), without = losses(*alone, 0, 97, 2);
  CHECK(after[0] == without[0]);  // the same weights, another step
  CHECK(after[1] != without[1]);
}

TEST_CASE("a slot under AdamW is saved without its moments", "[adamw]") {
  const auto learner = make(Optimiser::adamw);
  losses(*learner, 0, 97, 3);
  const std::string blob = learner->save(0);
  const auto contents = parse_safetensors(blob);
  REQUIRE(contents);
  bool moved = false;
  for (const auto& [name, tensor] : contents->tensors) {
    const bool zero = tensor.data.find_first_not_of('\0') == std::string_view::npos;
    if (name.starts_with("momentum.")) CHECK(zero);
    else if (name.find("lora_B") != std::string::npos) moved = moved || !zero;
  }
  CHECK(moved);
}
