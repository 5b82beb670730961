// Warm births: a new slot starts from the neighbour that helps.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "core/learner.hpp"
#include "core/llama.hpp"
#include "core/safetensors.hpp"
#include "core/slot.hpp"
#include "core/warm_birth.hpp"
#include "core/weights.hpp"
#include "tests/tiny_base.hpp"

using namespace kpool;
using kpool::testing::tiny_base;

namespace {

/// 64 tokens of a cycle.
Sample cycle(std::uint64_t seq) {
  Sample sample{{0, seq}};
  for (std::size_t i = 0; i < 64; ++i) sample.tokens.push_back(static_cast<std::int32_t>((seq + i) % 7) + 97);
  return sample;
}

constexpr const char* down_a = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight";

std::vector<float> matrix_of(const std::string& blob) {
  const auto contents = parse_safetensors(blob);
  REQUIRE(contents);
  const auto& data = contents->tensors.at(down_a).data;
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), data.size());
  return values;
}

LearnerOptions warm_options() {
  LearnerOptions options;
  options.slots = 3;
  options.rank = 4;
  options.alpha = 8;
  options.learning_rate = 0.003;
  options.tokens_per_step = 64;
  options.threads = 1;
  options.births = Births::warm;
  return options;
}

}  // namespace

TEST_CASE("a warm birth copies the slot that helps, and no slot that does not") {
  const auto learner = make_learner(warm_options(), tiny_base());
  learner->open({0, 1});
  for (std::uint64_t seq = 1; seq <= 20; ++seq) CHECK_FALSE(learner->learn(0, cycle(seq)).at(0).warm);
  const std::string teacher = learner->save(0);
  learner->open({1, 2});
  const auto warm = learner->learn(1, cycle(30)).at(0).warm;
  REQUIRE(warm);
  CHECK((warm->slot == 0 && warm->share == 1 && warm->gain > 1));
  CHECK(learner->save(0) == teacher);
  const auto copy = matrix_of(learner->save(1)), original = matrix_of(teacher);
  for (std::size_t i = 0; i < copy.size(); ++i) REQUIRE(std::abs(copy[i] - original[i]) <= 0.0031f);  // one step away
  learner->open({2, 3});
  Sample other{{0, 40}};  // bytes that no slot has seen: what was learned can only hurt
  for (int i = 0; i < 64; ++i) other.tokens.push_back(33 + (i * i) % 31);
  CHECK_FALSE(learner->learn(2, other).at(0).warm);
}

TEST_CASE("a birth with another slot's directions takes its A and no B") {
  LearnerOptions options = warm_options();
  options.births = Births::directions;
  options.learning_rate = 1e-6;  // the first step leaves the start as it is
  const auto base = tiny_base();
  const LoraLayout layout(base->weights().shape, options.rank);
  const auto weights_of = [&](Learner& learner, std::uint32_t slot) {
    const auto state = restore_slot(learner.save(slot), layout, {options.alpha, base->fingerprint()},
                                    options.momentum_type);
    REQUIRE(state);
    return state->weights;
  };
  LearnerOptions teaching = warm_options();
  const auto teacher = make_learner(teaching, base), learner = make_learner(options, base);
  teacher->open({0, 1});
  for (std::uint64_t seq = 1; seq <= 20; ++seq) teacher->learn(0, cycle(seq));
  learner->open({0, 1});
  REQUIRE(learner->restore(0, teacher->save(0)));
  learner->open({1, 2});
  const auto start = learner->learn(1, cycle(30)).at(0).warm;
  REQUIRE(start);
  CHECK((start->slot == 0 && start->share == 0 && start->gain > 1));
  const auto taught = weights_of(*learner, 0), started = weights_of(*learner, 1);
  for (const LoraPlace& place : layout.places) {
    for (std::int64_t i = 0; i < place.in * layout.rank; ++i)
      REQUIRE(started[place.a + i] == Approx(taught[place.a + i]).margin(2e-6));
    for (std::int64_t i = 0; i < place.out * layout.rank; ++i) REQUIRE(std::abs(started[place.b + i]) < 2e-6f);
  }
}

TEST_CASE("of a slot that overshoots a part is taken, its A whole and its B less") {
  const auto base = tiny_base();
  const LearnerOptions options = warm_options();
  const auto learner = make_learner(options, base);
  learner->open({0, 1});
  for (std::uint64_t seq = 1; seq <= 20; ++seq) learner->learn(0, cycle(seq));
  const LoraLayout layout(base->weights().shape, options.rank);
  const auto state = restore_slot(learner->save(0), layout, {options.alpha, base->fingerprint()},
                                  options.momentum_type);
  REQUIRE(state);
  std::vector<float> overshot(state->weights.size()), part(overshot.size());
  start_from(layout, state->weights, 4, overshot);
  Workspace workspace = make_workspace(base->weights());
  Adapter scratch(layout, base->weights().dtype, options.alpha / options.rank, base->weights().device);
  const Sample fresh = cycle(30);
  const std::vector<Segment> segments{{fresh.tokens, 1}};
  const Batch batch = make_batch(base->weights(), segments);
  const std::vector<std::span<const float>> candidates{{}, overshot};
  const auto start = find_warm_start(base->weights(), batch, candidates, scratch, workspace);
  REQUIRE(start);
  CHECK((start->slot == 1 && start->share < 1 && start->gain > 1));
  start_from(layout, overshot, start->share, part);
  const LoraPlace& place = layout.places.front();
  CHECK(part[place.a] == overshot[place.a]);
  CHECK(part[place.b] == static_cast<float>(start->share) * overshot[place.b]);
}
