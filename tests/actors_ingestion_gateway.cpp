// Ingestion as a gateway sees it: who may say what when, and what is answered.
#include "tests/ingestion_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;
using gateway::RefuseReason;

TEST_CASE("a hello is answered with the watermark, the credit and the limits") {
  IngestionFixture fixture;
  fixture.hello();
  const auto welcome = fixture.last<gateway::Welcome>();
  CHECK(welcome.epoch == 1);
  CHECK(welcome.watermark == 0);
  CHECK(welcome.credit_bytes == 500);  // a half: two places
  CHECK(welcome.credit_records == 50);
  CHECK(welcome.record_bytes_max == 64);
}

TEST_CASE("nothing but a hello is taken from an unknown connection") {
  IngestionFixture fixture;
  fixture.data(1, {"text"});
  CHECK_FALSE(fixture.refusal(RefuseReason::no_hello).final);
  fixture.say(gateway::Ping{});
  fixture.refusal(RefuseReason::no_hello);
  fixture.hello();
  fixture.data(1, {"text"}, "K", "another route of the same key");
  fixture.refusal(RefuseReason::no_hello);
  CHECK_FALSE(fixture.ingestion.has_work());
}

TEST_CASE("before the state is there, gateways are told to wait") {
  IngestionFixture fixture(small_config(), false);
  fixture.hello();
  CHECK_FALSE(fixture.refusal(RefuseReason::starting).final);
}

TEST_CASE("a broken frame costs its sender nothing else") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.ingestion.on_gateway("K", "r", Error{Fault::bad_input, "a frame of 3 bytes is no multiple of 8"});
  const auto refuse = fixture.refusal(RefuseReason::bad_frame);
  CHECK(refuse.detail == "a frame of 3 bytes is no multiple of 8");
  CHECK_FALSE(refuse.final);
  fixture.data(1, {"text"});
  fixture.work();
  CHECK(fixture.released() == std::vector<std::uint64_t>{1});
}

TEST_CASE("what only the daemon says is refused from a gateway") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.say(gateway::Ack{});
  fixture.refusal(RefuseReason::bad_frame);
}

TEST_CASE("another protocol version is refused for good, naming both") {
  IngestionFixture fixture;
  fixture.say(gateway::Hello{7, 1, 0, 1});
  const auto refuse = fixture.refusal(RefuseReason::version);
  CHECK(refuse.final);
  CHECK(refuse.detail == "protocol version 7 is not spoken here, only 1");
}

TEST_CASE("an epoch counts from 1 and never goes back") {
  IngestionFixture fixture;
  fixture.hello(0);
  CHECK(fixture.refusal(RefuseReason::bad_frame).final);
  fixture.hello(5);
  fixture.last<gateway::Welcome>();
  fixture.hello(4);
  const auto refuse = fixture.refusal(RefuseReason::stale_epoch);
  CHECK(refuse.final);
  CHECK(refuse.detail == "epoch 4 is over, 5 has begun; a gateway that lost its state goes on with a higher one");
  fixture.data(1, {"text"}, "K", "r", 4);
  CHECK(fixture.refusal(RefuseReason::stale_epoch).final);
}

TEST_CASE("a gateway that has seen more acknowledgements than the store knows is refused for good") {
  IngestionFixture fixture;
  fixture.hello(1, 9);
  const auto refuse = fixture.refusal(RefuseReason::regression);
  CHECK(refuse.final);
  CHECK(refuse.detail == "record 9 was acknowledged, but the store ends at 0: it was lost or set back");
  CHECK(fixture.ingestion.report().find("\"regressions\":1") != std::string::npos);
}

TEST_CASE("a gap is refused with the number that was expected") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, {"one", "two"});
  fixture.data(4, {"four"});
  const auto refuse = fixture.refusal(RefuseReason::gap);
  CHECK(refuse.expected_seq == 3);
  CHECK_FALSE(refuse.final);
  fixture.data(3, {"three", "four"});
  fixture.work();
  CHECK(fixture.released() == std::vector<std::uint64_t>{1, 2, 3, 4});
}

TEST_CASE("what was received before is taken once") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, {"one", "two"});
  fixture.data(1, {"one", "two", "three"});
  fixture.data(0, {"zero", "one"});
  fixture.work();
  CHECK(fixture.released() == std::vector<std::uint64_t>{1, 2, 3});
}

TEST_CASE("text beyond the credit is refused, and taken once there is room") {
  auto config = small_config();
  config.commit.bytes = 60;
  config.commit.groups_in_flight = 64;
  IngestionFixture fixture(config);
  fixture.hello();
  const std::string text(60, 'x');
  fixture.data(1, std::vector<std::string>(12, text));  // 500 of credit and one record's grace: nine
  const auto refuse = fixture.refusal(RefuseReason::credit);
  CHECK(refuse.expected_seq == 10);
  CHECK_FALSE(refuse.final);
  fixture.work();
  CHECK(fixture.released().size() == 9);
  fixture.durable(1);
  CHECK(fixture.last<gateway::Ack>().up_to == 1);
  fixture.data(10, {text});
  fixture.last<gateway::Ack>();  // not refused
  fixture.data(11, {text});
  fixture.refusal(RefuseReason::credit);
}

TEST_CASE("records beyond the credit in records are refused") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.data(1, std::vector<std::string>(51, "x"));
  CHECK(fixture.refusal(RefuseReason::credit).expected_seq == 51);
}

TEST_CASE("each bad record is refused alone, with its reason") {
  auto config = small_config();
  config.commit.records_max = 50;
  config.commit.bytes = 10000;
  IngestionFixture fixture(config);
  fixture.hello();
  gateway::Data data{1, 1, {}};
  const std::string e_acute = "\xc3\xa9";
  const std::vector<std::pair<gateway::OutgoingRecord, std::optional<Refusal>>> cases = {
      {{"good", 0}, std::nullopt},
      {{"", 0}, Refusal::empty},
      {{" \t\r\n", 0}, Refusal::empty},
      {{std::string(65, 'x'), 0}, Refusal::too_long},
      {{std::string(5000, 'x'), 0}, Refusal::too_long},  // beyond any credit as well: it counts as 65
      {{std::string(64, 'x'), 0}, std::nullopt},
      {{"\xff", 0}, Refusal::not_utf8},
      {{"cut \xc3", 0}, Refusal::not_utf8},
      {{"\xed\xa0\x80", 0}, Refusal::not_utf8},  // a surrogate
      {{"\xc0\x80", 0}, Refusal::not_utf8},      // overlong
      {{e_acute, 1}, Refusal::bad_prompt},       // inside the character
      {{e_acute, 3}, Refusal::bad_prompt},       // beyond the text
      {{"prompt answer", 7}, std::nullopt},
      {{"the last", 0}, std::nullopt}};
  std::vector<std::uint64_t> good;
  std::vector<std::pair<std::uint64_t, Refusal>> bad;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    data.records.push_back(cases[i].first);
    if (cases[i].second) bad.emplace_back(i + 1, *cases[i].second);
    else good.push_back(i + 1);
  }
  fixture.say(std::move(data));
  fixture.work();
  CHECK(fixture.released() == good);
  std::vector<std::pair<std::uint64_t, Refusal>> refused;
  for (const auto& message : fixture.out.to<pipeline::Refused>(StageId::persistence)) {
    CHECK(message.group == 1);
    for (const auto& record : message.records) refused.emplace_back(record.origin.seq, record.reason);
  }
  CHECK(refused == bad);
}

TEST_CASE("refused records fill a group as their gateway counts them") {
  auto config = small_config();
  config.engine.deterministic = true;  // no clock would end the group
  config.commit.records_max = 1000;
  config.gateway.record_bytes_max = 1000;
  IngestionFixture fixture(config);
  fixture.hello();
  fixture.say(gateway::Data{1, 1, {{"\xff" + std::string(60, 'x'), 0}, {std::string(60, ' '), 0}}});
  fixture.work();
  const auto barriers = fixture.out.to<pipeline::Barrier>(StageId::encoding);
  REQUIRE(barriers.size() == 1);
  CHECK(barriers[0].group == 1);
}

TEST_CASE("a gateway with very many refusals says hello again, and what it knows is forgotten") {
  auto config = small_config();
  const std::uint64_t many = SourceTable::source_refusals_max + 1;
  config.commit.records_max = config.gateway.credit_records = many + 10;
  IngestionFixture fixture(config);
  fixture.hello();
  fixture.data(1, std::vector<std::string>(many, ""));
  fixture.data(many + 1, {"good"});
  fixture.say(gateway::Flush{1, many + 1});
  fixture.work();
  std::vector<RefusedRecord> refused;
  for (std::uint64_t seq = 1; seq <= many; ++seq) refused.push_back({{0, seq}, Refusal::empty});
  fixture.durable(1, refused);
  CHECK(fixture.last<gateway::Ack>().refused.size() == many);
  fixture.data(many + 2, {"more"});
  CHECK_FALSE(fixture.refusal(RefuseReason::no_hello).final);
  fixture.hello(1, many + 1);
  CHECK(fixture.last<gateway::Welcome>().refused.empty());
  fixture.data(many + 2, {"more"});
  fixture.say(gateway::Flush{1, many + 2});
  fixture.work();
  CHECK(fixture.released() == std::vector<std::uint64_t>{many + 1, many + 2});
}

TEST_CASE("places for gateways are limited; one that has its place keeps it over an epoch") {
  IngestionFixture fixture;
  fixture.hello(1, 0, "A", "a");
  fixture.hello(1, 0, "B", "b");
  fixture.hello(1, 0, "C", "c");
  const auto refuse = fixture.refusal(RefuseReason::credit);
  CHECK_FALSE(refuse.final);
  CHECK(refuse.detail == "all 2 places for gateways are taken; try later");
  fixture.hello(2, 0, "A", "a");
  CHECK(fixture.last<gateway::Welcome>().epoch == 2);
  fixture.hello(1, 0, "B", "a new connection");
  CHECK(fixture.last<gateway::Welcome>().epoch == 1);
}

TEST_CASE("a new epoch starts at 1 and drops what the old one still had in the queue") {
  IngestionFixture fixture;
  fixture.hello(1);
  fixture.data(1, {"old one", "old two"});
  fixture.hello(2);
  CHECK(fixture.last<gateway::Welcome>().watermark == 0);
  fixture.data(1, {"new one"}, "K", "r", 2);
  fixture.work();
  const auto frames = fixture.out.all<pipeline::Records>();
  REQUIRE(frames.size() == 1);
  REQUIRE(frames[0].records.size() == 1);
  CHECK(frames[0].records[0].text == "new one");
}

TEST_CASE("a ping is answered with an acknowledgement; a lost answer ends the connection") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.say(gateway::Ping{});
  CHECK(fixture.last<gateway::Ack>().up_to == 0);
  fixture.delivers = false;
  fixture.say(gateway::Ping{});
  fixture.delivers = true;
  fixture.say(gateway::Ping{});
  fixture.refusal(RefuseReason::no_hello);
}

TEST_CASE("while the daemon stops, data is refused and may come again") {
  IngestionFixture fixture;
  fixture.hello();
  fixture.ingestion.drain(fixture.out);
  fixture.data(1, {"late"});
  CHECK_FALSE(fixture.refusal(RefuseReason::stopping).final);
  CHECK(fixture.ingestion.drained());
}
