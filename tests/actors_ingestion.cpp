// Ingestion as the pipeline sees it: groups, barriers, acknowledgements, restoring.
#include <nlohmann/json.hpp>

#include "tests/ingestion_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;
using Groups = std::vector<std::uint64_t>;

TEST_CASE("a group ends where its text is long enough, whatever the frames") {
  for (const std::size_t at_once : {1, 3, 7}) {
    IngestionFixture fixture;
    fixture.hello();
    for (std::uint64_t seq = 1; seq <= 7; seq += at_once) {
      fixture.data(seq, std::vector<std::string>(std::min<std::size_t>(at_once, 8 - seq), std::string(40, 'x')));
      fixture.work();
    }
    CHECK(fixture.barriers() == Groups{1, 2});  // 3 x 40 >= 100
    CHECK(fixture.released() == Groups{1, 2, 3, 4, 5, 6});  // two groups are in flight: the rest waits
  }
}

TEST_CASE("a group ends after so many records") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, std::vector<std::string>(9, "x"));
  fixture.work();
  CHECK(fixture.barriers() == Groups{1});
  CHECK(fixture.released().size() == 9);
}

TEST_CASE("only so many groups are in flight; a durable one makes room") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, std::vector<std::string>(40, "x"));
  fixture.work();
  CHECK(fixture.barriers() == Groups{1, 2});
  CHECK_FALSE(fixture.ingestion.has_work());
  CHECK_FALSE(fixture.ingestion.deadline());
  fixture.durable(1);
  fixture.work();
  CHECK(fixture.barriers() == Groups{1, 2, 3});
  CHECK(fixture.released().size() == 24);
}

TEST_CASE("the watermark goes to persistence before the barrier, the barrier down both ways") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, std::vector<std::string>(8, "x"));
  fixture.work();
  using namespace pipeline;
  const std::vector<std::pair<StageId, std::size_t>> expected = {{StageId::encoding, kind<Records>()},
                                                                 {StageId::persistence, kind<Part>()},
                                                                 {StageId::persistence, kind<Barrier>()},
                                                                 {StageId::encoding, kind<Barrier>()}};
  CHECK(fixture.out.order() == expected);
  const auto part = fixture.out.all<Part>().at(0);
  CHECK(part.key == "source/0");
  CHECK(part.group == 1);
  CHECK(nlohmann::json::parse(part.value) == nlohmann::json{{"key", "K"}, {"epoch", 1}, {"watermark", 8}});
}

TEST_CASE("a group ends at its deadline, counted from its first record") {
  IngestionFixture fixture;
  fixture.hello();
  CHECK_FALSE(fixture.ingestion.deadline());
  const auto before = Clock::now();
  fixture.data(1, {"x"});
  CHECK_FALSE(fixture.ingestion.deadline());  // not yet released
  fixture.work();
  const auto deadline = fixture.ingestion.deadline();
  REQUIRE(deadline);
  CHECK(*deadline >= before + std::chrono::milliseconds(small_config().commit.max_wait_ms));
  CHECK(fixture.barriers().empty());
  REQUIRE(fixture.ingestion.on_deadline(*deadline, fixture.out));
  CHECK(fixture.barriers() == Groups{1});
  CHECK_FALSE(fixture.ingestion.deadline());
}

TEST_CASE("in deterministic mode no clock ends a group, and stopping does not either") {
  auto config = small_config();
  config.engine.deterministic = true;
  IngestionFixture fixture(config);
  fixture.hello();
  fixture.data(1, {"x"});
  fixture.work();
  CHECK_FALSE(fixture.ingestion.deadline());
  fixture.ingestion.drain(fixture.out);
  CHECK(fixture.barriers().empty());
  CHECK(fixture.ingestion.drained());
}

TEST_CASE("stopping commits what was released and waits for it") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, {"x", "y"});
  fixture.work();
  CHECK_FALSE(fixture.ingestion.drained());
  fixture.ingestion.drain(fixture.out);
  CHECK(fixture.barriers() == Groups{1});
  CHECK_FALSE(fixture.ingestion.drained());
  fixture.durable(1);
  CHECK(fixture.ingestion.drained());
  CHECK(fixture.last<gateway::Ack>().up_to == 2);
}

TEST_CASE("a flush ends the group once its last record is released") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, {"x", "y"});
  fixture.say(gateway::Flush{1, 2});
  fixture.work();
  CHECK(fixture.barriers() == Groups{1});
  CHECK(fixture.released() == Groups{1, 2});
  fixture.say(gateway::Flush{1, 2});  // said again while the group is in flight: nothing to add
  fixture.work();
  CHECK(fixture.barriers() == Groups{1});
  fixture.durable(1);
  fixture.say(gateway::Flush{1, 2});
  CHECK(fixture.last<gateway::Ack>().up_to == 2);
  fixture.say(gateway::Flush{1, 3});
  CHECK(fixture.refusal(gateway::RefuseReason::gap).expected_seq == 3);
}

TEST_CASE("records are acknowledged when they are durable, never before, with what was refused") {
  IngestionFixture fixture;
  fixture.hello();
  const std::size_t told = fixture.sent.size();
  fixture.data(1, std::vector<std::string>(8, "x"));
  fixture.work();
  CHECK(fixture.sent.size() == told);
  fixture.durable(1, {{{0, 3}, Refusal::no_tokens}, {{0, 5}, Refusal::numeric}});
  REQUIRE(fixture.sent.size() == told + 1);
  const auto ack = fixture.last<gateway::Ack>();
  CHECK(ack.up_to == 8);
  REQUIRE(ack.refused.size() == 2);
  CHECK(ack.refused[0].seq == 3);
  CHECK(ack.refused[1].reason == Refusal::numeric);
}

TEST_CASE("two sources in a group are each told their own") {
  IngestionFixture fixture;
  fixture.hello(1, 0, "A", "a");
  fixture.hello(1, 0, "B", "b");
  fixture.data(1, {"x", "y", "z"}, "A", "a");
  fixture.data(1, std::vector<std::string>(5, "x"), "B", "b");
  fixture.work();
  fixture.sent.clear();
  fixture.durable(1, {{{1, 2}, Refusal::no_tokens}});
  REQUIRE(fixture.sent.size() == 2);
  const auto first = std::get<gateway::Ack>(fixture.sent[0].second);
  const auto second = std::get<gateway::Ack>(fixture.sent[1].second);
  CHECK(fixture.sent[0].first == "a");
  CHECK(first.up_to == 3);
  CHECK(first.refused.empty());
  CHECK(second.up_to == 5);
  REQUIRE(second.refused.size() == 1);
  CHECK(second.refused[0].seq == 2);
}

TEST_CASE("a gateway that was away learns from the welcome what became durable and what was refused") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, std::vector<std::string>(8, "x"));
  fixture.work();
  fixture.delivers = false;
  fixture.durable(1, {{{0, 3}, Refusal::no_tokens}});
  fixture.delivers = true;
  fixture.hello();
  auto welcome = fixture.last<gateway::Welcome>();
  CHECK(welcome.watermark == 8);
  REQUIRE(welcome.refused.size() == 1);
  CHECK(welcome.refused[0].seq == 3);
  fixture.hello(1, 8);  // it knows now
  CHECK(fixture.last<gateway::Welcome>().refused.empty());
}

TEST_CASE("after a restart, sources go on from their watermark and know their refusals") {
  IngestionFixture fixture(small_config(), false);
  // In the order of the store's keys: refusals come before the sources that they belong to.
  REQUIRE(fixture.ingestion.restore("refusals/10", "[[0,7,4]]"));
  REQUIRE(fixture.ingestion.restore("refusals/9", "[[0,3,1],[4,1,1]]"));
  REQUIRE(fixture.ingestion.restore("source/0", R"({"key":"K","epoch":2,"watermark":8})"));
  REQUIRE(fixture.ingestion.start(12, fixture.out));
  fixture.hello(2, 5);
  const auto welcome = fixture.last<gateway::Welcome>();
  CHECK(welcome.watermark == 8);
  REQUIRE(welcome.refused.size() == 1);
  CHECK(welcome.refused[0].seq == 7);
  CHECK(welcome.refused[0].reason == Refusal::no_tokens);
  fixture.data(1, std::vector<std::string>(16, "x"), "K", "r", 2);
  fixture.work();
  CHECK(fixture.released() == Groups{9, 10, 11, 12, 13, 14, 15, 16});
  CHECK(fixture.barriers() == Groups{13});
  Groups deleted;  // group 9's refusals are known to the gateway, group 10's are not
  for (const auto& part : fixture.out.all<pipeline::Part>())
    if (part.value.empty()) CHECK(part.key == "refusals/9");
}

TEST_CASE("a stored value that is not readable stops the start and is named") {
  IngestionFixture fixture(small_config(), false);
  const auto source = fixture.ingestion.restore("source/3", "{");
  REQUIRE_FALSE(source);
  CHECK(source.error().message == "the stored state of source 3 is not readable");
  CHECK_FALSE(fixture.ingestion.restore("refusals/3", "{}"));
  CHECK_FALSE(fixture.ingestion.restore("slot/3", "[]"));
  CHECK_FALSE(fixture.ingestion.restore("mixture", "x"));
}

TEST_CASE("the report counts and holds no text") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, std::vector<std::string>(7, "some private text"));
  fixture.work();
  fixture.durable(1, {{{0, 2}, Refusal::numeric}});
  const auto report = nlohmann::json::parse(fixture.ingestion.report());
  CHECK(report["records_received"] == 7);
  CHECK(report["records_durable"] == 6);
  CHECK(report["records_refused"] == 1);
  CHECK(report["sources"][0]["watermark"] == 6);
  CHECK(report.dump().find("private") == std::string::npos);
}
