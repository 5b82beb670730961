// The training stage around a scripted learner, and the fragility stage behind it: what goes where,
// and in which order.
#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "actors/fragility_stage.hpp"
#include "actors/training.hpp"
#include "tests/actors_support.hpp"

using namespace kpool;
using namespace kpool::testing;
using namespace kpool::pipeline;

namespace {

struct Script {
  std::vector<std::string> calls;
  std::map<std::uint64_t, std::vector<StepReport>> on_learn;  ///< by seq
  std::vector<StepReport> on_flush;
  std::vector<std::uint32_t> dirty;
};

class ScriptedLearner : public Learner {
 public:
  explicit ScriptedLearner(Script& script) : script_(script) {}
  std::optional<MergeReport> open(const Birth& birth) override {
    script_.calls.push_back("open " + std::to_string(birth.slot));
    return std::nullopt;
  }
  std::vector<StepReport> learn(std::uint32_t slot, Sample sample) override {
    script_.calls.push_back("learn " + std::to_string(slot) + " " + std::to_string(sample.origin.seq));
    return script_.on_learn[sample.origin.seq];
  }
  std::vector<StepReport> flush() override {
    script_.calls.push_back("flush");
    return std::exchange(script_.on_flush, {});
  }
  double agreement(std::uint32_t one, std::uint32_t other) const override { return 0.25 + one + 10.0 * other; }
  std::vector<std::uint32_t> take_dirty() override { return std::exchange(script_.dirty, {}); }
  std::string save(std::uint32_t slot) const override { return "state " + std::to_string(slot); }
  Status restore(std::uint32_t slot, std::string_view bytes) override {
    script_.calls.push_back("restore " + std::to_string(slot) + " " + std::string(bytes));
    return Done{};
  }

 private:
  Script& script_;
};

struct Fixture {
  Fixture()
      : training([this]() -> Result<std::unique_ptr<Learner>> {
          return std::unique_ptr<Learner>(new ScriptedLearner(script));
        }, "id") {
    REQUIRE(training.open());
    REQUIRE(training.start(4, out));
  }
  void say(Message message) {
    REQUIRE(training.on_message(std::move(message), out));
    while (training.has_work()) REQUIRE(training.work(out));
  }
  Script script;
  FakeOutbox out;
  Training training;
};

Routed routed(std::uint32_t slot, std::vector<std::uint64_t> seqs) {
  Routed frame{slot, {}};
  for (const auto seq : seqs) frame.samples.push_back({{0, seq}, 0, {1, 2, 3}});
  return frame;
}

StepReport step(std::uint32_t slot, std::uint64_t number) {
  StepReport report;
  report.slot = slot;
  report.step = number;
  report.tokens = 10;
  return report;
}

using Calls = std::vector<std::string>;

}  // namespace

TEST_CASE("samples are learned one by one, in order, by their slot") {
  Fixture fixture;
  REQUIRE(fixture.training.on_message(routed(1, {7, 8}), fixture.out));
  CHECK(fixture.script.calls.empty());  // work is done in pieces
  REQUIRE(fixture.training.work(fixture.out));
  CHECK(fixture.script.calls == Calls{"learn 1 7"});
  CHECK(fixture.training.has_work());
  fixture.say(routed(0, {9}));
  CHECK(fixture.script.calls == Calls{"learn 1 7", "learn 1 8", "learn 0 9"});
}

TEST_CASE("a step is told to fragility") {
  Fixture fixture;
  fixture.script.on_learn[7] = {step(1, 1), step(1, 2)};
  fixture.say(routed(1, {7}));
  const auto trained = fixture.out.to<Trained>(StageId::fragility);
  REQUIRE(trained.size() == 2);
  CHECK(trained[1].report.step == 2);
  const auto report = nlohmann::json::parse(fixture.training.report());
  CHECK(report["steps"] == 2);
  CHECK(report["tokens"] == 20);
}

TEST_CASE("a step that was rolled back refuses its records in the group that is open") {
  Fixture fixture;
  StepReport bad = step(1, 1);
  bad.refused = {{{0, 5}, Refusal::numeric}, {{0, 6}, Refusal::numeric}};
  fixture.script.on_learn[6] = {bad};
  fixture.say(routed(1, {5, 6}));
  const auto refused = fixture.out.to<Refused>(StageId::persistence);
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].group == 5);
  CHECK(refused[0].records.size() == 2);
  CHECK(fixture.out.all<Trained>().empty());
  fixture.script.on_flush = {bad};  // in what a barrier flushes: still of its group
  fixture.say(Barrier{5, "routing"});
  CHECK(fixture.out.all<Refused>().at(1).group == 5);
  fixture.say(routed(1, {6}));
  CHECK(fixture.out.all<Refused>().at(2).group == 6);
}

TEST_CASE("a birth trains what is buffered, opens the slot, and goes on to fragility") {
  Fixture fixture;
  fixture.script.on_flush = {step(0, 3)};
  fixture.say(Birth{0, 2, true});
  CHECK(fixture.script.calls == Calls{"flush", "open 0"});
  const std::vector<std::pair<StageId, std::size_t>> expected = {{StageId::fragility, kind<Trained>()},
                                                                 {StageId::fragility, kind<Birth>()}};
  CHECK(fixture.out.order() == expected);
}

TEST_CASE("a barrier trains what is buffered, saves the slots that changed, then passes on") {
  Fixture fixture;
  fixture.script.on_flush = {step(2, 1)};
  fixture.script.dirty = {0, 2};
  fixture.say(Barrier{5, "routing"});
  const std::vector<std::pair<StageId, std::size_t>> expected = {
      {StageId::fragility, kind<Trained>()}, {StageId::persistence, kind<Part>()}, {StageId::persistence, kind<Part>()},
      {StageId::persistence, kind<Barrier>()}, {StageId::fragility, kind<Barrier>()}};
  CHECK(fixture.out.order() == expected);
  const auto parts = fixture.out.all<Part>();
  CHECK(parts[0].key == "slot/0");
  CHECK(parts[1].key == "slot/2");
  CHECK(parts[1].value == "state 2");
  CHECK(parts[1].group == 5);
  fixture.out.sent.clear();
  fixture.say(Barrier{6, "routing"});
  CHECK(fixture.out.all<Part>().empty());
}

TEST_CASE("slots are saved one by one, before anything that follows the barrier") {
  Fixture fixture;
  fixture.script.dirty = {0, 2};
  REQUIRE(fixture.training.on_message(Barrier{5, "routing"}, fixture.out));
  REQUIRE(fixture.training.on_message(routed(0, {9}), fixture.out));
  for (const std::size_t saved : {0u, 1u, 2u}) {
    REQUIRE(fixture.training.work(fixture.out));
    CHECK(fixture.out.all<Part>().size() == saved);
    CHECK(fixture.out.all<Barrier>().empty());
  }
  REQUIRE(fixture.training.work(fixture.out));
  CHECK(fixture.out.all<Barrier>().size() == 2);
  CHECK(fixture.script.calls == Calls{"flush"});
  REQUIRE(fixture.training.work(fixture.out));
  CHECK(fixture.script.calls == Calls{"flush", "learn 0 9"});
}

TEST_CASE("how well the slots of a barrier agree is measured once all is trained, and goes on to fragility") {
  Fixture fixture;
  fixture.say(Barrier{5, "routing", MergePair{1, 2, 9}});
  const auto merge = fixture.out.to<Barrier>(StageId::fragility).at(0).merge;
  REQUIRE(merge);
  CHECK((merge->lesser == 1 && merge->greater == 2 && merge->birth == 9 && merge->agreement == 21.25));
  CHECK(fixture.script.calls == Calls{"flush"});
  fixture.say(Barrier{6, "routing"});
  CHECK_FALSE(fixture.out.to<Barrier>(StageId::fragility).at(1).merge);
}

TEST_CASE("slots are restored by their number") {
  Fixture fixture;
  REQUIRE(fixture.training.restore("slot/3", "bytes"));
  CHECK(fixture.script.calls == Calls{"restore 3 bytes"});
  CHECK_FALSE(fixture.training.restore("slot/x", "bytes"));
  CHECK_FALSE(fixture.training.restore("slot/", "bytes"));
  CHECK_FALSE(fixture.training.restore("mixture", "bytes"));
}

TEST_CASE("the fragility stage ranks at every barrier and at its start, and is what it saved") {
  FakeOutbox out;
  FragilityStage stage(FragilityOptions{});
  REQUIRE(stage.on_message(Birth{1, 1, false}, out));
  REQUIRE(stage.on_message(Trained{step(1, 1)}, out));
  CHECK(out.sent.empty());
  REQUIRE(stage.on_message(Barrier{3, "training", MergePair{2, 1, 9, 0.5}}, out));
  const std::vector<std::pair<StageId, std::size_t>> expected = {{StageId::persistence, kind<Part>()},
                                                                 {StageId::persistence, kind<Part>()},
                                                                 {StageId::persistence, kind<Barrier>()},
                                                                 {StageId::routing, kind<Ranking>()}};
  CHECK(out.order() == expected);
  const auto ranking = out.all<Ranking>().at(0);
  CHECK(ranking.group == 3);
  REQUIRE(ranking.slots.size() == 1);
  CHECK(ranking.slots[0].slot == 1);

  FakeOutbox later;
  FragilityStage restarted(FragilityOptions{});
  for (const Part& part : out.all<Part>()) REQUIRE(restarted.restore(part.key, part.value));
  REQUIRE(restarted.start(3, later));
  const auto again = later.to<Ranking>(StageId::routing).at(0);
  CHECK(again.group == 3);
  REQUIRE(again.slots.size() == 1);
  CHECK(again.slots[0].slot == 1);
  REQUIRE(again.merge);
  CHECK((again.merge->lesser == 2 && again.merge->greater == 1 && again.merge->birth == 9));
  CHECK(again.merge->agreement == 0.5);
  REQUIRE(restarted.on_message(Birth{0, 10, false}, later));
  REQUIRE(restarted.start(3, later));
  CHECK_FALSE(later.to<Ranking>(StageId::routing).at(1).merge);  // of slots as they were
  REQUIRE(stage.on_message(Birth{0, 10, false}, out));
  CHECK(restarted.report() == stage.report());
}
