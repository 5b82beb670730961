// A slot takes over what another one learned.
#include <catch2/catch.hpp>

#include "core/fragility.hpp"
#include "core/learner.hpp"
#include "core/ledger.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;
using kpool::testing::tiny_base;

namespace {

/// 64 tokens of a cycle from `letter` on.
Sample cycle(std::uint64_t seq, std::int32_t letter) {
  Sample sample{{0, seq}};
  for (std::size_t i = 0; i < 64; ++i) sample.tokens.push_back(static_cast<std::int32_t>((seq + i) % 7) + letter);
  return sample;
}

std::unique_ptr<Learner> make(const std::shared_ptr<const Base>& base) {
  LearnerOptions options{.slots = 2, .rank = 4, .alpha = 8, .learning_rate = 0.01, .tokens_per_step = 64};
  options.gain_every = options.sharpness_every = options.rival_every = 0;
  options.threads = 1;
  return make_learner(options, base);
}

/// Loss of a step before its update.
double loss_of(Learner& learner, std::uint32_t slot, std::int32_t letter) {
  return learner.learn(slot, cycle(99, letter)).at(0).loss;
}

}  // namespace

TEST_CASE("slots that learned the same are averaged, and what they learned stays", "[learner]") {
  const auto base = tiny_base();
  auto learner = make(base);
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    CHECK_FALSE(learner->open({slot, slot + 1, false, std::nullopt}));
    for (std::uint64_t seq = 0; seq < 30; ++seq) learner->learn(slot, cycle(seq, 97));
  }
  learner->take_dirty();
  const double agreement = learner->agreement(1, 0);
  CHECK(learner->agreement(0, 1) == Approx(agreement));
  const auto merge = learner->open({1, 3, false, 0});
  REQUIRE(merge);
  CHECK(merge->agreement == agreement);
  CHECK(merge->agreement > 0.05);
  CHECK(merge->agreement < 1);
  CHECK((merge->discarded > 0 && merge->discarded < 0.5));
  CHECK(learner->take_dirty() == std::vector<std::uint32_t>{0, 1});
  auto untrained = make(base);
  untrained->open({0, 1, false, std::nullopt});
  const double of_base = loss_of(*untrained, 0, 97);
  CHECK(loss_of(*learner, 0, 97) < 0.7 * of_base);
  CHECK(loss_of(*learner, 1, 97) == Approx(of_base));  // the freed slot starts anew
}

TEST_CASE("a slot that took no step leaves the one that takes it over as it is, and agrees with none", "[learner]") {
  const auto base = tiny_base();
  auto merged = make(base), alone = make(base);
  for (auto* learner : {merged.get(), alone.get()}) {
    for (std::uint32_t slot = 0; slot < 2; ++slot) learner->open({slot, slot + 1, false, std::nullopt});
    for (std::uint64_t seq = 0; seq < 3; ++seq) learner->learn(0, cycle(seq, 97));
  }
  CHECK(merged->agreement(0, 1) == 0);
  CHECK(merged->open({1, 3, false, 0})->discarded == 0);
  CHECK(loss_of(*merged, 0, 97) == loss_of(*alone, 0, 97));
}

TEST_CASE("a merged slot counts with the steps of both") {
  Fragility fragility({.slots = 2});
  RegretLedger ledger(2, 100);
  for (std::uint32_t slot = 0; slot < 2; ++slot) fragility.on_birth({slot, slot + 1, false, std::nullopt});
  for (int i = 0; i < 30; ++i) {
    const StepReport report{.slot = i % 3 == 0 ? 1U : 0U, .tokens = 10, .loss = 1, .gain = 0.5};
    fragility.on_step(report);
    ledger.on_step(report);
  }
  const Birth birth{1, 3, false, 0};
  fragility.on_birth(birth);
  ledger.on_birth(birth);
  for (const SlotScore& score : fragility.ranking())
    CHECK((score.slot == 0 ? score.steps == 30 && score.tokens == 300 : score.steps == 0));
  CHECK(ledger.of_pool().eviction == 0);
}
