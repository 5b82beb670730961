#include "messages/pipeline.hpp"

#include <catch2/catch.hpp>

#include "tests/messages_support.hpp"

using namespace kpool;
namespace pl = kpool::pipeline;

namespace {

template <class T>
T through(const T& value) {
  auto decoded = pl::decode(pl::encode(value, 42));
  REQUIRE(decoded);
  CHECK(decoded->run == 42);
  REQUIRE(std::holds_alternative<T>(decoded->message));
  return std::get<T>(decoded->message);
}

const std::string binary("\0\x01\xff value", 9);

}  // namespace

TEST_CASE("the life of the stages survives a round trip") {
  const auto join = through(pl::Join{"training", ~0ull, "base:abc"});
  CHECK((join.stage == "training" && join.instance == ~0ull && join.identity == "base:abc"));
  const auto restore = through(pl::Restore{"slot/1", binary});
  CHECK((restore.key == "slot/1" && restore.value == binary));
  const auto restored = through(pl::Restored{3, 4});
  CHECK((restored.group == 3 && restored.values == 4));
  CHECK(through(pl::Reset{"a stage left"}).why == "a stage left");
  through(pl::Mark{});
}

TEST_CASE("records survive a round trip, many in one frame") {
  pl::Records message;
  for (std::uint32_t i = 0; i < 1000; ++i) message.records.push_back({{i, i + 1}, i % 7, std::string(i % 50, 'a')});
  const auto back = through(message);
  REQUIRE(back.records.size() == 1000);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    CHECK((back.records[i].origin == Origin{i, i + 1} && back.records[i].prompt_bytes == i % 7));
    CHECK(back.records[i].text == message.records[i].text);
  }
  CHECK(through(pl::Records{}).records.empty());
}

TEST_CASE("encoded records and samples survive a round trip") {
  const EncodedRecord record{{1, 2}, 3, {-1, 0, 49151}, {0.5f, -1e30f}, {13, {1.5f, -2.0f, 0.25f}}};
  const auto back = through(pl::EncodedRecords{{record, EncodedRecord{{4, 5}, 0, {}, {}}}});
  REQUIRE(back.records.size() == 2);
  CHECK((back.records[0].origin == record.origin && back.records[0].prompt_tokens == 3));
  CHECK(back.records[0].tokens == record.tokens);
  CHECK(back.records[0].embedding == record.embedding);
  CHECK((back.records[0].hidden.layers == 13 && back.records[0].hidden.values == record.hidden.values));
  CHECK((back.records[1].tokens.empty() && back.records[1].hidden.values.empty()));
  const auto routed = through(pl::Routed{7, {{{1, 2}, 1, {5, 6, 7}, {2, {0.75f}}}, {{1, 3}, 0, {8}}}});
  CHECK((routed.slot == 7 && routed.samples.size() == 2));
  CHECK((routed.samples[0].origin == Origin{1, 2} && routed.samples[0].prompt_tokens == 1));
  CHECK(routed.samples[0].tokens == std::vector<std::int32_t>{5, 6, 7});
  CHECK((routed.samples[0].hidden.layers == 2 && routed.samples[0].hidden.values == std::vector<float>{0.75f}));
  CHECK(routed.samples[1].tokens == std::vector<std::int32_t>{8});
}

TEST_CASE("births, steps and rankings survive a round trip") {
  const auto birth = through(Birth{2, 9, true});
  CHECK((birth.slot == 2 && birth.generation == 9 && birth.evicts && !birth.merged_into));
  CHECK(through(Birth{2, 9, false, 0}).merged_into == 0U);
  StepReport report{1, 2, 3, 4, 5.5, 0.25, std::nullopt, {}};
  const auto trained = through(pl::Trained{report}).report;
  CHECK((trained.slot == 1 && trained.step == 2 && trained.tokens == 3 && trained.records == 4));
  CHECK((trained.loss == 5.5 && trained.gain == 0.25 && !trained.sharpness));
  report.gain.reset();
  report.sharpness = 1e-3;
  report.rival = Rival{4, 2.5};
  const auto other = through(pl::Trained{report}).report;
  CHECK((!other.gain && other.sharpness == 1e-3));
  CHECK((!trained.rival && other.rival && other.rival->slot == 4 && other.rival->loss == 2.5));
  const auto ranking = through(pl::Ranking{6, {{1, 2, 3, 4, 5, 6, 7, 0.5, 9, "long unused"}, {}}});
  CHECK((ranking.group == 6 && ranking.slots.size() == 2));
  const SlotScore& score = ranking.slots[0];
  CHECK((score.slot == 1 && score.generation == 2 && score.steps == 3 && score.tokens == 4 && score.loss == 5));
  CHECK((score.gain == 6 && score.sharpness == 7 && score.fragility == 0.5 && score.value == 9));
  CHECK(score.reason == "long unused");
  CHECK_FALSE(ranking.merge);
  const auto merge = through(pl::Ranking{6, {}, MergePair{3, 1, 9, -0.25}}).merge;
  REQUIRE(merge);
  CHECK((merge->lesser == 3 && merge->greater == 1 && merge->birth == 9 && merge->agreement == -0.25));
}

TEST_CASE("refusals and the commit survive a round trip") {
  const auto refused = through(pl::Refused{8, {{{1, 2}, Refusal::numeric}, {{3, 4}, Refusal::no_tokens}}});
  REQUIRE(refused.records.size() == 2);
  CHECK((refused.records[1].origin == Origin{3, 4} && refused.records[1].reason == Refusal::no_tokens));
  const auto barrier = through(pl::Barrier{5, "routing"});
  CHECK((barrier.group == 5 && barrier.stage == "routing" && !barrier.merge));
  CHECK(through(pl::Barrier{5, "routing", MergePair{3, 1, 9}}).merge->birth == 9);
  const auto part = through(pl::Part{9, "slot/3", std::string(1 << 20, 'w')});
  CHECK((part.key == "slot/3" && part.value == std::string(1 << 20, 'w')));
  const auto durable = through(pl::Durable{8, {{{1, 9}, Refusal::poison}}});
  CHECK((durable.group == 8 && durable.refused.size() == 1 && durable.refused[0].reason == Refusal::poison));
}

TEST_CASE("reports and snapshots survive a round trip") {
  const auto report = through(pl::Report{"encoding", "{}"});
  CHECK((report.stage == "encoding" && report.json == "{}"));
  const auto snapshot = through(pl::Snapshot{1, "/tmp/s"});
  CHECK((snapshot.id == 1 && snapshot.directory == "/tmp/s"));
  const auto done = through(pl::Answer{1, "disk full"});
  CHECK((done.id == 1 && done.error == "disk full"));
}

TEST_CASE("an operator's changes survive a round trip") {
  const auto change = through(pl::Change{5, 2, SlotChange::hold});
  CHECK((change.id == 5 && change.slot == 2 && change.what == SlotChange::hold));
  const auto setting = through(pl::Setting{5, "keep/2", "held"});
  CHECK((setting.id == 5 && setting.key == "keep/2" && setting.value == "held"));
  CHECK_FALSE(pl::decode(pl::encode(pl::Change{5, 2, static_cast<SlotChange>(slot_change_max + 1)}, 1)));
}

TEST_CASE("messages are built in one segment of exactly their size") {
  pl::Routed routed{1, {{{1, 1}, 0, std::vector<std::int32_t>(511, 7)}}};
  const Frame frame = pl::encode(routed, 1);
  std::uint32_t table[2];
  std::memcpy(table, frame.bytes().data(), sizeof table);
  CHECK(table[0] == 0);
  CHECK((table[1] + 1) * 8 == frame.bytes().size());
}

TEST_CASE("hostile pipeline frames are refused, not obeyed") {
  const pl::EncodedRecords encoded{{{{1, 2}, 3, {1, 2, 3}, {0.5f}}, {{1, 3}, 0, {4}, {1.f}}}};
  CHECK(test::torment(pl::encode(encoded, 1), pl::decode) > 100);
  CHECK(test::torment(pl::encode(pl::Ranking{6, {{1, 2, 3, 4, 5, 6, 7, 0.5, 9, "reason"}}}, 1), pl::decode) > 100);
  CHECK(test::torment(pl::encode(pl::Part{9, "slot/1", binary}, 1), pl::decode) > 100);
}

TEST_CASE("a union member from another version is refused") {
  std::string bytes = test::bytes_of(pl::encode(pl::Mark{}, 1));
  bool refused = false;
  for (std::size_t at = 16; at + 2 <= bytes.size(); at += 2) {  // wherever the discriminant lies
    std::string changed = bytes;
    changed[at] = 99;
    refused |= !pl::decode(test::frame_of(changed));
  }
  CHECK(refused);
}
