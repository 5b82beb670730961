// Fragility: the three policies on made-up steps, reasons, saved states.
#include "core/fragility.hpp"

#include <catch2/catch.hpp>

namespace {

using namespace kpool;

FragilityOptions with_policy(const std::string& policy) {
  FragilityOptions options;
  options.slots = 4;
  options.policy = policy;
  options.half_life_batches = 10;
  return options;
}

void steps(Fragility& fragility, std::uint32_t slot, int count, double gain = 0, double sharpness = 0.01) {
  for (int i = 0; i < count; ++i) {
    StepReport report;
    report.slot = slot;
    report.tokens = 100;
    report.loss = 2;
    if (gain != 0) report.gain = gain + 0.01 * (i % 3);
    report.sharpness = sharpness;
    fragility.on_step(report);
  }
}

std::vector<std::uint32_t> order(const Fragility& fragility) {
  std::vector<std::uint32_t> slots;
  for (const SlotScore& score : fragility.ranking()) slots.push_back(score.slot);
  return slots;
}

/// Slot 0: old and useful; 1: fresh, much used, no gain; 2: few steps, the last one; 3 was never born.
Fragility filled(const std::string& policy) {
  Fragility fragility(with_policy(policy));
  for (std::uint32_t slot = 0; slot < 3; ++slot) fragility.on_birth({slot, slot + 1, false});
  steps(fragility, 0, 30, 0.5);
  steps(fragility, 1, 12);
  steps(fragility, 2, 4, 0.2);
  return fragility;
}

}  // namespace

TEST_CASE("each policy ranks the live slots by its own rule") {
  CHECK(order(filled("count")) == std::vector<std::uint32_t>{2, 1, 0});
  CHECK(order(filled("lru")) == std::vector<std::uint32_t>{0, 1, 2});
  CHECK(order(filled("score")).front() == 1);
  CHECK(order(filled("gain")) == std::vector<std::uint32_t>{1, 2, 0});
}

TEST_CASE("a lot is drawn anew with time, alike for the same history, and falls on every slot") {
  Fragility fragility = filled("random"), twin = filled("random");
  std::vector<int> first(3);
  for (int i = 0; i < 60; ++i) {
    CHECK(order(fragility) == order(twin));
    ++first[order(fragility).front()];
    for (Fragility* each : {&fragility, &twin}) steps(*each, 0, 1);
  }
  for (const int count : first) CHECK(count > 5);
}

TEST_CASE("the score follows gain, sharpness and recurrence") {
  Fragility fragility(with_policy("score"));
  for (std::uint32_t slot = 0; slot < 3; ++slot) fragility.on_birth({slot, slot + 1, false});
  for (int round = 0; round < 20; ++round) {
    steps(fragility, 0, 1, 0.5, 0.01);
    steps(fragility, 1, 1, 0.5, 5.0);   // the same gain, but one wrong step wipes it out
    steps(fragility, 2, 1, 0.1, 0.01);  // robust, but worth less
  }
  const auto ranking = fragility.ranking();
  REQUIRE(ranking.size() == 3);
  CHECK((ranking[0].slot == 1 && ranking[1].slot == 2 && ranking[2].slot == 0));
  CHECK(ranking[0].gain == Approx(0.5));
  CHECK(ranking[0].fragility == Approx(1 / (1 + 0.5 / 5.0 / 4)));
  // 60 half-lives later the robust slot has faded behind a fresh one
  steps(fragility, 2, 600, 0.1, 0.01);
  CHECK(fragility.ranking().back().slot == 2);
}

TEST_CASE("gain is a lower bound: one lucky measurement establishes nothing") {
  Fragility fragility(with_policy("score"));
  fragility.on_birth({0, 1, false});
  StepReport report;
  report.gain = 3.0;
  fragility.on_step(report);
  CHECK(fragility.ranking()[0].gain == 0);
  CHECK(fragility.ranking()[0].fragility == 1);
  report.gain = -3.0;
  fragility.on_step(report);
  CHECK(fragility.ranking()[0].gain == 0);
}

TEST_CASE("a slot that was never born is not ranked, a newborn is expendable") {
  Fragility fragility = filled("score");
  CHECK(order(fragility).size() == 3);
  fragility.on_birth({0, 4, true});
  CHECK(fragility.ranking().size() == 3);
  for (const SlotScore& score : fragility.ranking())
    if (score.slot == 0) CHECK((score.generation == 4 && score.steps == 0 && score.value == 0));
}

TEST_CASE("a step that was rolled back teaches nothing") {
  Fragility fragility = filled("count");
  const std::string before = fragility.save();
  StepReport report;
  report.slot = 1;
  report.refused = {{{0, 1}, Refusal::numeric}};
  fragility.on_step(report);
  CHECK(fragility.save() == before);
}

TEST_CASE("every rank says why") {
  CHECK(filled("count").ranking()[0].reason == "4 steps taken, the last one 0 steps ago");
  CHECK(filled("lru").ranking()[0].reason == "last used 16 steps ago, after 30 of its own");
  CHECK(filled("score").ranking()[0].reason == "no gain established yet in 12 steps, the last one 4 steps ago");
  CHECK(filled("score").ranking().back().reason.find("misrouted steps would erase it") != std::string::npos);
}

TEST_CASE("fragility is saved and continued bit for bit; damage is refused") {
  Fragility one = filled("score");
  Fragility two(with_policy("score"));
  REQUIRE(two.restore(one.save()));
  CHECK(two.save() == one.save());
  steps(one, 2, 7, 0.3);
  steps(two, 2, 7, 0.3);
  CHECK(two.save() == one.save());
  const std::string saved = one.save();
  for (std::size_t position = 0; position < saved.size(); ++position) {
    std::string damaged = saved;
    damaged[position] ^= 1;
    REQUIRE(two.restore(damaged).error().fault == Fault::bad_input);
    REQUIRE_FALSE(two.restore(saved.substr(0, position)));
  }
  CHECK(two.save() == saved);
  FragilityOptions fewer = with_policy("score");
  fewer.slots = 2;
  const Status status = Fragility(fewer).restore(saved);
  REQUIRE_FALSE(status);
  CHECK(status.error().message == "the saved fragility has 4 slots, this pool has 2");
}
