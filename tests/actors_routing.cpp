// The routing stage around a scripted router: held samples, frames of one slot, waiting for rankings.
#include "tests/routing_fixture.hpp"

#include <nlohmann/json.hpp>

using namespace kpool;
using namespace kpool::testing;
using namespace kpool::pipeline;
using Fixture = RoutingFixture;

TEST_CASE("consecutive samples of one slot share a frame") {
  Fixture fixture;
  fixture.script.on_route = {{0, {Assignment{0, 1}}}, {1, {Assignment{1, 1}}}, {2, {Assignment{2, 0}}},
                             {3, {Assignment{3, 1}}}};
  fixture.records(1, 4);
  CHECK(fixture.frames() == "1:1,2 0:3 1:4");
  const auto sample = fixture.out.all<Routed>().at(0).samples.at(0);
  CHECK(sample.tokens == std::vector<std::int32_t>{1, 2});
  CHECK(sample.prompt_tokens == 1);
}

TEST_CASE("a held sample waits for its decision, over frames and up to the barrier") {
  Fixture fixture;
  fixture.script.on_route = {{2, {Assignment{0, 2}, Assignment{2, 2}}}};
  fixture.records(1, 2);
  CHECK(fixture.frames().empty());
  fixture.records(3, 1);
  CHECK(fixture.frames() == "2:1,3");
  CHECK(nlohmann::json::parse(fixture.routing.report())["held"] == 1);
  fixture.script.on_barrier = {Assignment{1, 0}};
  fixture.say(Barrier{1, "encoding"});
  CHECK(fixture.frames() == "2:1,3 0:2");
}

TEST_CASE("a birth stands before the samples of its slot and after what went before") {
  Fixture fixture;
  fixture.script.on_route = {{0, {Assignment{0, 0}}}, {1, {Birth{1, 9, true}, Assignment{1, 1}}}};
  fixture.records(1, 2);
  const std::vector<std::pair<StageId, std::size_t>> expected = {
      {StageId::training, kind<Routed>()}, {StageId::training, kind<Birth>()}, {StageId::training, kind<Routed>()}};
  CHECK(fixture.out.order() == expected);
  const auto birth = fixture.out.all<Birth>().at(0);
  CHECK(birth.slot == 1);
  CHECK(birth.generation == 9);
  CHECK(birth.evicts);
  const auto report = nlohmann::json::parse(fixture.routing.report());
  CHECK(report["births"] == 1);
  CHECK(report["evictions"] == 1);
  CHECK(report["slots"][1]["generation"] == 9);
  CHECK(report["slots"][1]["records"] == 1);
}

TEST_CASE("a slot that takes another over counts its records") {
  Fixture fixture;
  fixture.script.on_route = {{0, {Birth{0, 1}, Assignment{0, 0}}},
                             {1, {Birth{1, 2}, Assignment{1, 1}}},
                             {2, {Birth{1, 3, false, 0}, Assignment{2, 1}}}};
  fixture.records(1, 3);
  CHECK(fixture.out.all<Birth>().at(2).merged_into == 0U);
  const auto report = nlohmann::json::parse(fixture.routing.report());
  CHECK((report["merges"] == 1 && report["evictions"] == 0));
  CHECK((report["slots"][0]["records"] == 2 && report["slots"][1]["records"] == 1));
}

TEST_CASE("at a barrier the last decisions go first, then the state, then the barrier both ways") {
  Fixture fixture;
  fixture.records(1, 1);
  fixture.script.on_barrier = {Assignment{0, 0}};
  fixture.say(Barrier{1, "encoding"});
  const std::vector<std::pair<StageId, std::size_t>> expected = {{StageId::training, kind<Routed>()},
                                                                 {StageId::persistence, kind<Part>()},
                                                                 {StageId::persistence, kind<Part>()},
                                                                 {StageId::persistence, kind<Barrier>()},
                                                                 {StageId::training, kind<Barrier>()}};
  CHECK(fixture.out.order() == expected);
  const auto parts = fixture.out.all<Part>();
  CHECK(parts[0].key == "mixture");
  CHECK(parts[0].value == "the mixture");
  CHECK(fixture.out.all<Barrier>().at(0).stage == "routing");

  Fixture again;
  REQUIRE(again.routing.restore("mixture", parts[0].value));
  REQUIRE(again.routing.restore("routing", parts[1].value));
  REQUIRE(again.routing.start(1, again.out));
  CHECK(again.script.restored == "the mixture");
  CHECK(again.routing.report() == fixture.routing.report());
}

TEST_CASE("a pin or hold is in force at once and goes to persistence") {
  Fixture fixture;
  fixture.script.on_route = {{0, {Birth{1, 9}, Assignment{0, 1}}}};
  fixture.records(1, 1);
  const auto change = [&](std::uint32_t slot, SlotChange what) { fixture.say(Change{7, slot, what}); };
  change(1, SlotChange::pin);
  CHECK(fixture.script.pinned[1]);
  change(1, SlotChange::hold);
  change(1, SlotChange::unpin);
  CHECK(fixture.script.pinned[1]);  // by the hold
  CHECK(nlohmann::json::parse(fixture.routing.report())["slots"][1]["kept"] == "held");
  change(1, SlotChange::release);
  CHECK_FALSE(fixture.script.pinned[1]);
  std::vector<std::string> values;
  for (const auto& setting : fixture.out.to<Setting>(StageId::persistence)) {
    CHECK((setting.id == 7 && setting.key == "keep/1"));
    values.push_back(setting.value);
  }
  CHECK(values == std::vector<std::string>{"pinned", "pinned held", "held", ""});
  change(0, SlotChange::pin);  // free
  change(3, SlotChange::hold);
  const auto refused = fixture.out.to<Answer>(StageId::serving);
  REQUIRE(refused.size() == 2);
  CHECK(refused[0].error == "slot 0 is not in use: status has those that are");
  CHECK(fixture.out.to<Setting>(StageId::persistence).size() == 4);

  Fixture again;
  REQUIRE(again.routing.restore("keep/2", "pinned held"));
  REQUIRE(again.routing.restore("mixture", "the mixture"));
  CHECK(again.script.pinned[2]);
  CHECK(nlohmann::json::parse(again.routing.report())["slots"][2]["kept"] == "pinned held");
  CHECK_FALSE(again.routing.restore("keep/3", "pinned"));
}

TEST_CASE("the records of a slot on hold are refused alone, in their group") {
  Fixture fixture;
  REQUIRE(fixture.routing.start(4, fixture.out));
  fixture.script.on_route = {{0, {Birth{0, 1}, Assignment{0, 0}}}, {1, {Birth{1, 2}, Assignment{1, 1}}},
                             {2, {Assignment{2, 0}}}, {3, {Assignment{3, 1}}}};
  fixture.records(1, 2);
  fixture.say(Change{1, 0, SlotChange::hold});
  fixture.records(3, 2);
  CHECK(fixture.frames() == "0:1 1:2 1:4");
  auto refused = fixture.out.to<Refused>(StageId::persistence);
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].group == 5);
  REQUIRE(refused[0].records.size() == 1);
  CHECK((refused[0].records[0].origin == Origin{0, 3} && refused[0].records[0].reason == Refusal::held));
  CHECK(nlohmann::json::parse(fixture.routing.report())["slots"][0]["records"] == 1);
}

TEST_CASE("a domain without room is counted, also over a restart") {
  Fixture fixture;
  fixture.script.on_route = {{0, {Birth{0, 1}, Assignment{0, 0}}},
                             {1, {Verdict{Verdict::Outcome::no_room, 0, 1}, Assignment{1, 0}}}};
  fixture.records(1, 2);
  CHECK(fixture.frames() == "0:1,2");
  fixture.say(Barrier{1, "encoding"});
  Fixture again;
  REQUIRE(again.routing.restore("routing", fixture.out.all<Part>().at(1).value));
  CHECK(nlohmann::json::parse(again.routing.report())["without_room"] == 1);
}

TEST_CASE("a birth, a joined source and an eviction are logged with the numbers that decided them") {
  Fixture fixture;
  Verdict opens{Verdict::Outcome::opens, 7, 9, 8.25, 8, 1, 3.5, 0.95}, joins = opens;
  opens.merge = {.distance = 0.5};
  joins.outcome = Verdict::Outcome::joins;
  fixture.script.on_route = {{0, {opens, Birth{2, 4, true}, Assignment{0, 2}}},
                             {1, {joins, Assignment{1, 1}, opens, Birth{2, 5, true}}}};
  Ranking ranking{1, {}};
  ranking.slots = {
      {0}, {.slot = 2, .gain = 0.125, .sharpness = 0.5, .fragility = 0.75, .value = 0.0625, .reason = "why"}};
  fixture.say(std::move(ranking));
  const std::string log = log_of([&] { fixture.records(1, 2); });
  INFO(log);
  for (const char* part : {"9 novel records of source 7 are a new domain: evidence 8.2 of 8.0, 3.50 from slot 1 where "
                           "0.95 would join it; to make room two slots become one: 0.50 apart",
                           "number 2 of 2 in the order of eviction, why (value 0.0625, gain 0.1250, sharpness 0.5, "
                           "fragility 0.750, 0 records)",
                           "it has not been scored since it was opened or the daemon was started (1 records)",
                           "9 novel records of source 7 are another source of the domain of slot 1: evidence 8.2"})
    CHECK(log.find(part) != std::string::npos);
  CHECK(nlohmann::json::parse(fixture.routing.report())["joins"] == 1);
}

TEST_CASE("whether two slots become one is logged with their distance and agreement") {
  Fixture fixture;
  const auto verdict = [](std::optional<double> agreement) {
    Verdict opens{Verdict::Outcome::opens, 7, 9};
    opens.merge = Verdict::Merge{0.5, 0.25, agreement};
    return opens;
  };
  fixture.script.on_route = {{0, {verdict(0.375), verdict(0.125), verdict(std::nullopt)}}};
  const std::string log = log_of([&] { fixture.records(1, 1); });
  INFO(log);
  for (const char* part : {"two slots become one: 0.50 apart, agreement 0.375 of 0.250",
                           "two slots do not become one: 0.50 apart, agreement 0.125 of 0.250",
                           "two slots do not become one: 0.50 apart, how well they agree is not known yet"})
    CHECK(log.find(part) != std::string::npos);
}

TEST_CASE("the ranking becomes the order of eviction") {
  Fixture fixture;
  Ranking ranking{1, {}};
  for (const std::uint32_t slot : {2, 0, 1}) ranking.slots.push_back({slot});
  fixture.say(std::move(ranking));
  CHECK(fixture.script.eviction_order == std::vector<std::uint32_t>{2, 0, 1});
}

TEST_CASE("the slots that may become one go out with the barrier, and their agreement comes back with the ranking") {
  Fixture fixture;
  fixture.script.candidate = MergePair{2, 0, 7};
  fixture.say(Barrier{1, "encoding"});
  CHECK(fixture.out.to<Barrier>(StageId::training).at(0).merge->lesser == 2);
  fixture.say(Ranking{1, {}, MergePair{2, 0, 7, 0.25}});
  CHECK(fixture.script.agreed->agreement == 0.25);
  fixture.say(Ranking{2, {}});
  CHECK_FALSE(fixture.script.agreed);
}

TEST_CASE("deterministic routing takes a group's records only once the ranking before it is here") {
  Fixture fixture(true);
  REQUIRE(fixture.routing.start(0, fixture.out));
  CHECK(fixture.routing.accepts_records());
  fixture.say(Barrier{1, "encoding"});
  CHECK_FALSE(fixture.routing.accepts_records());
  fixture.say(Ranking{1, {}});
  CHECK(fixture.routing.accepts_records());

  Fixture restarted(true);
  REQUIRE(restarted.routing.start(7, restarted.out));
  CHECK_FALSE(restarted.routing.accepts_records());
  restarted.say(Ranking{7, {}});
  CHECK(restarted.routing.accepts_records());

  Fixture free;
  REQUIRE(free.routing.start(7, free.out));
  CHECK(free.routing.accepts_records());
}

TEST_CASE("stored counts of another pool are refused") {
  Fixture fixture;
  CHECK_FALSE(fixture.routing.restore("routing", R"({"slots":[[1,2]]})"));
  CHECK_FALSE(fixture.routing.restore("routing", "{"));
  CHECK_FALSE(fixture.routing.restore("slot/1", ""));
}
