// The baselines of kpool-eval: classifiers that are taught with labels, and the gate that losses train.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "apps/kpool_eval_classifiers.hpp"
#include "apps/kpool_eval_gate.hpp"
#include "core/threads.hpp"

using namespace kpool;

namespace {

using Point = std::vector<float>;
constexpr std::size_t width = 6;

/// Products this small are slower on several threads.
std::unique_ptr<SlotClassifier> small_least_squares() {
  use_threads(1);
  return make_least_squares(3, width, {.features = 256, .ridge = 1, .seed = 3});
}

/// Noise of a fifth around one coordinate's unit vector times sign.
Point around(std::size_t axis, float sign, std::mt19937& engine) {
  std::normal_distribution<float> noise(0, 0.2f);
  Point x(width);
  for (float& value : x) value = noise(engine);
  x[axis] += sign;
  return x;
}

/// Slot k: both ends of axis k. The means of all slots are alike, so that no linear rule tells them apart.
std::vector<std::pair<std::uint32_t, Point>> two_sided(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<std::pair<std::uint32_t, Point>> labelled;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t slot = i % 3;
    labelled.emplace_back(slot, around(slot, i / 3 % 2 ? 1.0f : -1.0f, engine));
  }
  return labelled;
}

double accuracy(const SlotClassifier& classifier, const std::vector<std::pair<std::uint32_t, Point>>& labelled) {
  double right = 0;
  for (const auto& [slot, x] : labelled) right += classifier.classify(x) == slot;
  return right / static_cast<double>(labelled.size());
}

/// Shares of the last half of 400 records when each record makes the slot that it trains better for all records.
std::vector<double> shares_where_training_pays(const GateOptions& options) {
  constexpr std::size_t slots = 4, records = 400;
  SoftmaxGate gate(slots, width, options);
  std::mt19937 engine(5);
  std::vector<double> losses(slots, 4.0), shares(slots);
  for (std::size_t i = 0; i < records; ++i) {
    const std::uint32_t slot = gate.choose(around(engine() % width, 1, engine));
    gate.learn(losses);
    losses[slot] = 1 + (losses[slot] - 1) * 0.99;
    if (2 * i >= records) shares[slot] += 2.0 / records;
  }
  return shares;
}

}  // namespace

TEST_CASE("centroids answer with the nearest mean of the slots that were taught") {
  std::mt19937 engine(1);
  const auto centroids = make_centroids(3, width);
  CHECK_FALSE(centroids->classify(Point(width)));
  for (int i = 0; i < 30; ++i)
    for (const std::uint32_t slot : {0, 2}) centroids->learn(slot, around(slot, 1, engine));
  for (int i = 0; i < 30; ++i)
    for (const std::uint32_t slot : {0, 2}) CHECK(centroids->classify(around(slot, 1, engine)) == slot);
  centroids->reset(0);
  CHECK(centroids->classify(around(0, 1, engine)) == 2u);
  centroids->learn(0, around(4, 1, engine));  // nothing of the former mean is left in the new one
  CHECK(centroids->classify(around(4, 1, engine)) == 0u);
}

TEST_CASE("least squares on random features tell apart what has one mean, whatever the order") {
  const auto seen = two_sided(300, 1), unseen = two_sided(300, 2);
  const auto centroids = make_centroids(3, width);
  const auto forward = small_least_squares(), backward = small_least_squares();
  CHECK_FALSE(forward->classify(Point(width)));
  for (const auto& [slot, x] : seen) centroids->learn(slot, x), forward->learn(slot, x);
  for (auto at = seen.rbegin(); at != seen.rend(); ++at) backward->learn(at->first, at->second);
  CHECK(accuracy(*forward, unseen) > 0.95);
  CHECK(accuracy(*centroids, unseen) < 0.6);
  for (const auto& [slot, x] : unseen) CHECK(forward->classify(x) == backward->classify(x));
}

TEST_CASE("least squares forget a slot's labels and learn new ones in their place") {
  const auto squares = small_least_squares();
  for (const auto& [slot, x] : two_sided(300, 1)) squares->learn(slot, x);
  squares->reset(1);
  for (const auto& [slot, x] : two_sided(90, 2)) CHECK(squares->classify(x) != 1u);
  std::mt19937 engine(4);
  for (int i = 0; i < 50; ++i) squares->learn(1, around(5, 1, engine));
  for (int i = 0; i < 50; ++i) CHECK(squares->classify(around(5, 1, engine)) == 1u);
  int kept = 0;  // nobody's records by now: any slot may answer
  for (const float sign : {-1.0f, 1.0f})
    for (int i = 0; i < 50; ++i) kept += squares->classify(around(1, sign, engine)) == 1u;
  CHECK(kept < 70);
}

TEST_CASE("a step of the gate descends its expected loss along the gradient") {
  const GateOptions options{.learning_rate = 1e-4, .seed = 7};
  SoftmaxGate gate(3, width, options);
  std::mt19937 engine(2);
  for (int i = 0; i < 50; ++i) gate.choose(around(0, 1, engine));
  const Point x = around(1, 1, engine);
  gate.choose(x);
  const std::array losses = {1.0, 2.0, 4.0};
  const auto before = gate.probabilities(x);
  double expected = 0;
  for (std::size_t k = 0; k < 3; ++k) expected += before[k] * losses[k];
  gate.learn(losses);
  const auto after = gate.probabilities(x);
  // Every logit moves by -rate g_k (L_k - E) times the same |input|^2 + 1, so ratios of log odds say the gradient.
  const auto moved = [&](std::size_t k) { return std::log(after[k] / after[0]) - std::log(before[k] / before[0]); };
  const auto slope = [&](std::size_t k) { return before[k] * (losses[k] - expected); };
  CHECK(moved(1) / moved(2) == Approx((slope(1) - slope(0)) / (slope(2) - slope(0))).epsilon(1e-2));
  CHECK(after[0] > before[0]);
  CHECK(after[2] < before[2]);
  gate.learn(std::array{1.0, std::numeric_limits<double>::quiet_NaN(), 1.0});
  CHECK(gate.probabilities(x) == after);
}

TEST_CASE("the gate learns which slot predicts which records") {
  for (const bool sampled : {false, true}) {
    SoftmaxGate gate(2, width, {.learning_rate = 0.3, .balance = 0.01, .sampled = sampled, .seed = 1});
    std::mt19937 engine(3);
    for (int i = 0; i < 600; ++i) {
      gate.choose(around(0, i % 2 ? 1.0f : -1.0f, engine));
      gate.learn(std::array{i % 2 ? 1.0 : 3.0, i % 2 ? 3.0 : 1.0});
    }
    int right = 0;
    for (int i = 0; i < 200; ++i) right += gate.classify(around(0, i % 2 ? 1.0f : -1.0f, engine)) == (i + 1u) % 2;
    CHECK(right > 190);
  }
}

TEST_CASE("where training makes a slot better for all, the gate collapses unless the balance holds it") {
  const auto free = shares_where_training_pays({.learning_rate = 0.3, .seed = 1});
  CHECK(*std::max_element(free.begin(), free.end()) > 0.9);
  const auto balanced = shares_where_training_pays({.learning_rate = 0.3, .balance = 1, .seed = 1});
  CHECK(*std::max_element(balanced.begin(), balanced.end()) < 0.6);
  CHECK(*std::min_element(balanced.begin(), balanced.end()) > 0.05);
}
