// The encoding stage around a scripted encoder, and serving: small stages.
#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "actors/encoding.hpp"
#include "actors/serving.hpp"
#include "tests/actors_support.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using namespace kpool::testing;
using namespace kpool::pipeline;

namespace {

/// Throws at "throw", refuses "refuse", encodes the rest. calls: how many records each call had; 0: a group began.
class ScriptedEncoder : public Encoder {
 public:
  explicit ScriptedEncoder(std::vector<std::size_t>* calls = nullptr) : calls_(calls) {}
  std::vector<Encoded> encode(std::vector<Record> records) override {
    if (calls_) calls_->push_back(records.size());
    std::vector<Encoded> results;
    for (const Record& record : records) {
      if (record.text == "throw") throw std::runtime_error("a library gave up");
      if (record.text == "refuse") results.push_back(RefusedRecord{record.origin, Refusal::no_tokens});
      else results.push_back(EncodedRecord{record.origin, record.prompt_bytes, {1, 2}, {0.5f}});
    }
    return results;
  }
  std::size_t width() const override { return 1; }
  void begin_group() override {
    if (calls_) calls_->push_back(0);
  }

 private:
  std::vector<std::size_t>* const calls_;
};

struct Fixture {
  Fixture()
      : encoding([]() -> Result<std::unique_ptr<Encoder>> {
          return std::unique_ptr<Encoder>(new ScriptedEncoder);
        }, "id") {
    REQUIRE(encoding.open());
    REQUIRE(encoding.start(4, out));
  }
  void records(std::vector<std::string> texts) {
    Records frame;
    for (std::size_t i = 0; i < texts.size(); ++i) frame.records.push_back({{0, i + 1}, 0, texts[i]});
    REQUIRE(encoding.on_message(std::move(frame), out));
  }
  FakeOutbox out;
  Encoding encoding;
};

}  // namespace

TEST_CASE("a record that the encoder refuses or fails on is refused alone") {
  Fixture fixture;
  fixture.records({"good", "refuse", "throw", "better"});
  const auto encoded = fixture.out.to<EncodedRecords>(StageId::routing);
  REQUIRE(encoded.size() == 1);
  REQUIRE(encoded[0].records.size() == 2);
  CHECK(encoded[0].records[0].origin.seq == 1);
  CHECK(encoded[0].records[1].origin.seq == 4);
  const auto refused = fixture.out.to<Refused>(StageId::persistence);
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].group == 5);
  REQUIRE(refused[0].records.size() == 2);
  CHECK(refused[0].records[0].reason == Refusal::no_tokens);
  CHECK(refused[0].records[1].reason == Refusal::internal);
  CHECK(refused[0].records[1].origin.seq == 3);
}

TEST_CASE("records are encoded together, but one by one after one of them made the encoder throw, or after a crash") {
  using Calls = std::vector<std::size_t>;
  const TemporaryDirectory directory;
  const JournalPlace place{directory.file("journal"), "pool"};
  const auto calls_of = [&](std::vector<std::string> texts, int groups_before) {
    Calls calls;
    FakeOutbox out;
    Encoding encoding([&]() -> Result<std::unique_ptr<Encoder>> {
      return std::unique_ptr<Encoder>(new ScriptedEncoder(&calls));
    }, "id", place);
    REQUIRE(encoding.open());
    REQUIRE(encoding.start(4, out));
    for (int i = 0; i < groups_before; ++i) REQUIRE(encoding.on_message(Barrier{5u + i, "ingestion"}, out));
    CHECK(calls == Calls(1 + static_cast<std::size_t>(groups_before), 0));  // each group begins with the one before
    calls.clear();
    Records frame;
    for (std::size_t i = 0; i < texts.size(); ++i) frame.records.push_back({{0, i + 1}, 0, texts[i]});
    REQUIRE(encoding.on_message(std::move(frame), out));
    return calls;
  };
  CHECK(calls_of({"a", "b", "c"}, 0) == Calls{3});
  CHECK(calls_of({"a", "throw", "c"}, 0) == Calls{3, 1, 1, 1});
  const auto crash = [&] {
    auto journal = FlightJournal::open(place);
    REQUIRE(journal);
    (*journal)->mark_crash();
  };
  crash();
  CHECK(calls_of({"a", "b", "c"}, 63) == Calls{1, 1, 1});
  crash();
  CHECK(calls_of({"a", "b", "c"}, 64) == Calls{3});
}

TEST_CASE("nothing is sent on where all records were refused, and the reverse") {
  Fixture fixture;
  fixture.records({"refuse"});
  CHECK(fixture.out.all<EncodedRecords>().empty());
  fixture.out.sent.clear();
  fixture.records({"good"});
  CHECK(fixture.out.all<Refused>().empty());
}

TEST_CASE("a barrier goes to persistence and on; refusals after it are of the next group") {
  Fixture fixture;
  REQUIRE(fixture.encoding.on_message(Barrier{5, "ingestion"}, fixture.out));
  CHECK(fixture.out.to<Barrier>(StageId::persistence).at(0).stage == "encoding");
  CHECK(fixture.out.to<Barrier>(StageId::routing).at(0).group == 5);
  fixture.records({"refuse"});
  CHECK(fixture.out.all<Refused>().at(0).group == 6);
}

TEST_CASE("serving answers a status question with what every stage reported last") {
  std::vector<std::pair<std::string, admin::Message>> sent;
  FakeOutbox out;
  Serving serving(R"({"version":"1"})", [&](const std::string& route, const admin::Message& message) {
    sent.emplace_back(route, message);
    return true;
  });
  REQUIRE(serving.on_message(Report{"training", R"({"steps":1})"}, out));
  REQUIRE(serving.on_message(Report{"training", R"({"steps":2})"}, out));
  serving.on_admin("ctl", admin::Message(admin::StatusRequest{}), out);
  REQUIRE(sent.size() == 1);
  CHECK(sent[0].first == "ctl");
  const auto status = nlohmann::json::parse(std::get<admin::StatusReport>(sent[0].second).json);
  CHECK(status["version"] == "1");
  CHECK(status["stages"]["training"]["steps"] == 2);
  CHECK(status["uptime_seconds"].get<double>() >= 0);
}

TEST_CASE("serving gives each snapshot's end to who asked for it, and says what it does not take") {
  std::vector<std::pair<std::string, admin::Message>> sent;
  FakeOutbox out;
  Serving serving("{}", [&](const std::string& route, const admin::Message& message) {
    sent.emplace_back(route, message);
    return true;
  });
  serving.on_admin("a", admin::Message(admin::SnapshotRequest{"/one"}), out);
  serving.on_admin("b", admin::Message(admin::SnapshotRequest{"/two"}), out);
  const auto asked = out.to<Snapshot>(StageId::persistence);
  REQUIRE(asked.size() == 2);
  CHECK(asked[1].directory == "/two");
  REQUIRE(serving.on_message(Answer{asked[1].id, "no room"}, out));
  REQUIRE(serving.on_message(Answer{asked[1].id, "again"}, out));  // told once
  REQUIRE(serving.on_message(Answer{asked[0].id, ""}, out));
  REQUIRE(sent.size() == 2);
  CHECK(sent[0].first == "b");
  CHECK(std::get<admin::Reply>(sent[0].second).error == "no room");
  CHECK(sent[1].first == "a");
  serving.on_admin("c", Error{Fault::bad_input, "the frame is damaged"}, out);
  CHECK(std::get<admin::Reply>(sent[2].second).error == "the frame is damaged");
  serving.on_admin("d", admin::Message(admin::ChangeRequest{3, SlotChange::hold}), out);
  const auto changes = out.to<Change>(StageId::routing);
  REQUIRE(changes.size() == 1);
  CHECK((changes[0].slot == 3 && changes[0].what == SlotChange::hold && changes[0].id > asked[1].id));
  serving.on_admin("c", admin::Message(admin::StatusReport{}), out);
  CHECK(std::get<admin::Reply>(sent[3].second).error == "the daemon does not take this message");
}
