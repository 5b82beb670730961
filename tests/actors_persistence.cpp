// Persistence: groups are committed whole and in order; joining, identities, a full disk.
#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "actors/persistence.hpp"
#include "tests/actors_support.hpp"

using namespace kpool;
using namespace kpool::testing;
using namespace kpool::pipeline;

namespace {

/// What a store holds outlives the store, as a disk does.
struct Disk {
  Values values;
  bool full = false, broken = false;
  int commits = 0;
};

class FakeStore : public Store {
 public:
  explicit FakeStore(Disk& disk) : disk_(disk) {}
  Result<Values> load() const override { return disk_.values; }
  using Store::commit;
  Status commit(Values&& puts, const std::vector<std::string>& deletes) override {
    if (disk_.full) return Error{Fault::no_space, "the disk of store.path has 3 MiB left"};
    if (disk_.broken) return Error{Fault::io, "writing failed"};
    ++disk_.commits;
    for (const auto& [key, value] : puts) disk_.values[key] = value;
    for (const auto& key : deletes) disk_.values.erase(key);
    return Done{};
  }
  Status snapshot(const std::string& directory) const override {
    if (directory == "/taken") return Error{Fault::unavailable, "/taken exists already"};
    return Done{};
  }

 private:
  Disk& disk_;
};

constexpr const char* five[] = {"ingestion", "encoding", "routing", "training", "fragility"};

struct Fixture {
  explicit Fixture(Disk& disk)
      : persistence([&disk]() -> Result<std::unique_ptr<Store>> {
          return std::unique_ptr<Store>(new FakeStore(disk));
        }) {
    REQUIRE(persistence.open());
  }
  void join_all() {
    for (const char* stage : five) REQUIRE(say(Join{stage, 1, ""}));
    out.sent.clear();
  }
  Status say(Message message) { return persistence.on_message(std::move(message), out); }
  void barriers(std::uint64_t group, std::vector<std::string> stages = {std::begin(five), std::end(five)}) {
    for (const auto& stage : stages) REQUIRE(say(Barrier{group, stage}));
  }
  std::vector<std::uint64_t> durable() const {
    std::vector<std::uint64_t> groups;
    for (const auto& each : out.to<Durable>(StageId::ingestion)) groups.push_back(each.group);
    return groups;
  }
  FakeOutbox out;
  Persistence persistence;
};

using Groups = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("a group is committed only when all five barriers are there") {
  for (const std::string last : five) {
    Disk disk;
    Fixture fixture(disk);
    fixture.join_all();
    REQUIRE(fixture.say(Part{1, "slot/0", "weights"}));
    for (const std::string stage : five)
      if (stage != last) fixture.barriers(1, {stage, stage});  // one that comes twice counts once
    CHECK(disk.commits == 0);
    CHECK(fixture.durable().empty());
    fixture.barriers(1, {last});
    CHECK(disk.values == Values{{"group", "1"}, {"slot/0", "weights"}});
    CHECK(fixture.durable() == Groups{1});
  }
}

TEST_CASE("parts of two groups that come interleaved are committed apart and in order") {
  Disk disk;
  Fixture fixture(disk);
  fixture.join_all();
  REQUIRE(fixture.say(Part{2, "source/0", "second"}));
  REQUIRE(fixture.say(Part{1, "source/0", "first"}));
  REQUIRE(fixture.say(Part{1, "slot/0", "old"}));
  fixture.barriers(2);
  CHECK(disk.commits == 0);  // the first is not complete
  fixture.barriers(1, {"ingestion", "encoding", "routing", "training"});
  CHECK(disk.commits == 0);
  REQUIRE(fixture.say(Part{2, "slot/0", ""}));
  fixture.barriers(1, {"fragility"});
  CHECK(fixture.durable() == Groups{1, 2});
  CHECK(disk.commits == 2);
  CHECK(disk.values == Values{{"group", "2"}, {"source/0", "second"}});
}

TEST_CASE("refusals are committed with their group and told with it") {
  Disk disk;
  Fixture fixture(disk);
  fixture.join_all();
  REQUIRE(fixture.say(Refused{1, {{{0, 3}, Refusal::empty}}}));
  REQUIRE(fixture.say(Refused{2, {{{0, 9}, Refusal::poison}}}));
  REQUIRE(fixture.say(Refused{1, {{{1, 4}, Refusal::numeric}}}));
  fixture.barriers(1);
  CHECK(nlohmann::json::parse(disk.values.at("refusals/1")) == nlohmann::json::parse("[[0,3,1],[1,4,5]]"));
  const auto durable = fixture.out.all<Durable>().at(0);
  REQUIRE(durable.refused.size() == 2);
  CHECK(durable.refused[1].origin == Origin{1, 4});
  CHECK(durable.refused[1].reason == Refusal::numeric);
}

TEST_CASE("each stage is given its own values of the last commit, then told the group") {
  Disk disk;
  disk.values = {{"group", "41"}, {"source/0", "s"}, {"refusals/9", "r"}, {"mixture", "m"}, {"routing", "c"},
                 {"slot/0", "zero"}, {"slot/11", "eleven"}, {"fragility", "f"}, {"identity/training", "base x"}};
  Fixture fixture(disk);
  for (const char* stage : five) REQUIRE(fixture.say(Join{stage, 1, stage == five[3] ? "base x" : ""}));
  const auto keys = [&](StageId stage) {
    std::string text;
    for (const auto& each : fixture.out.to<Restore>(stage)) text += each.key + "=" + each.value + " ";
    const auto restored = fixture.out.to<Restored>(stage);
    CHECK(restored.size() == 1);
    CHECK(restored.at(0).group == 41);
    return text;
  };
  CHECK(keys(StageId::ingestion) == "refusals/9=r source/0=s ");
  CHECK(keys(StageId::encoding) == "");
  CHECK(keys(StageId::routing) == "mixture=m routing=c ");
  CHECK(keys(StageId::training) == "slot/0=zero slot/11=eleven ");
  CHECK(keys(StageId::fragility) == "fragility=f ");
  fixture.barriers(42);
  CHECK(fixture.durable() == Groups{42});
}

TEST_CASE("no stage starts before all have joined, and each is answered once") {
  Disk disk;
  Fixture fixture(disk);
  for (const char* stage : {"fragility", "training", "routing", "encoding"}) REQUIRE(fixture.say(Join{stage, 5, ""}));
  REQUIRE(fixture.say(Join{"training", 5, ""}));
  REQUIRE(fixture.say(Join{"routing", 6, ""}));  // started again before anything was lost
  REQUIRE(fixture.say(Join{"serving", 1, ""}));  // has no state
  REQUIRE(fixture.say(Join{"no stage", 1, ""}));
  CHECK(fixture.out.sent.empty());
  REQUIRE(fixture.say(Join{"ingestion", 5, ""}));
  REQUIRE(fixture.say(Join{"training", 5, ""}));  // was on its way
  for (const char* stage : five) CHECK(fixture.out.to<Restored>(*stage_named(stage)).size() == 1);
  CHECK(fixture.out.all<Restored>().size() == 5);
}

TEST_CASE("a stage that was started again after its state was sent resets all") {
  Disk disk;
  Fixture fixture(disk);
  fixture.join_all();
  const auto joined = fixture.say(Join{"training", 2, ""});
  REQUIRE_FALSE(joined);
  CHECK(joined.error().fault == Fault::again);
  CHECK(joined.error().message == "training was started again, so the pipeline starts anew from group 0");
  CHECK(fixture.out.all<Reset>().size() == 5);
  CHECK(fixture.out.all<Restored>().empty());
}

TEST_CASE("another base model than the stored pool's is refused in one sentence") {
  Disk disk;
  {
    Fixture fixture(disk);
    for (const char* stage : five) REQUIRE(fixture.say(Join{stage, 1, stage == five[3] ? "base aaaa, rank 8" : ""}));
    CHECK(disk.values.empty());
    fixture.barriers(1);
    CHECK(disk.values.at("identity/training") == "base aaaa, rank 8");
  }
  Fixture fixture(disk);
  const auto joined = fixture.say(Join{"training", 1, "base bbbb, rank 8"});
  REQUIRE_FALSE(joined);
  CHECK(joined.error().fault == Fault::mismatch);
  CHECK(joined.error().message ==
        "the stored pool was made with base aaaa, rank 8, but training now has base bbbb, rank 8: use the former "
        "model, settings and version, or another store.path");
}

TEST_CASE("on a full disk the same commit is tried again until there is room, and nothing is lost") {
  Disk disk;
  Fixture fixture(disk);
  fixture.join_all();
  disk.full = true;
  REQUIRE(fixture.say(Part{1, "slot/0", "one"}));
  fixture.barriers(1);
  CHECK(fixture.durable().empty());
  REQUIRE(fixture.persistence.deadline());
  CHECK(nlohmann::json::parse(fixture.persistence.report())["trouble"] == "the disk of store.path has 3 MiB left");
  REQUIRE(fixture.say(Part{2, "slot/1", "two"}));
  fixture.barriers(2);
  REQUIRE(fixture.persistence.on_deadline(*fixture.persistence.deadline(), fixture.out));
  CHECK(fixture.durable().empty());
  REQUIRE(fixture.persistence.deadline());
  CHECK_FALSE(fixture.persistence.accepts_records());  // more groups would only lie in memory
  disk.full = false;
  REQUIRE(fixture.persistence.on_deadline(*fixture.persistence.deadline(), fixture.out));
  CHECK(fixture.durable() == Groups{1, 2});
  CHECK(disk.values == Values{{"group", "2"}, {"slot/0", "one"}, {"slot/1", "two"}});
  CHECK(fixture.persistence.accepts_records());
  CHECK_FALSE(fixture.persistence.deadline());
  CHECK(nlohmann::json::parse(fixture.persistence.report())["trouble"] == "");
}

TEST_CASE("any other failed write ends the process without an acknowledgement") {
  Disk disk;
  Fixture fixture(disk);
  fixture.join_all();
  disk.broken = true;
  fixture.barriers(1, {"ingestion", "encoding", "routing", "training"});
  const auto said = fixture.say(Barrier{1, "fragility"});
  REQUIRE_FALSE(said);
  CHECK(said.error().fault == Fault::io);
  CHECK(fixture.durable().empty());
}

TEST_CASE("a setting is durable at once, between the groups, and answered") {
  Disk disk;
  Fixture fixture(disk);
  fixture.join_all();
  REQUIRE(fixture.say(Part{1, "slot/0", "one"}));
  REQUIRE(fixture.say(Setting{7, "keep/0", "pinned"}));
  CHECK(disk.values == Values{{"keep/0", "pinned"}});
  disk.full = true;
  REQUIRE(fixture.say(Setting{8, "keep/1", "held"}));
  disk.full = false;
  fixture.barriers(1);
  REQUIRE(fixture.say(Setting{9, "keep/0", ""}));
  CHECK(disk.values == Values{{"group", "1"}, {"slot/0", "one"}});
  std::vector<std::pair<std::uint64_t, std::string>> answers;
  for (const auto& answer : fixture.out.to<Answer>(StageId::serving)) answers.emplace_back(answer.id, answer.error);
  CHECK(answers == decltype(answers){{7, ""}, {8, "the disk of store.path has 3 MiB left"}, {9, ""}});

  disk.values["keep/2"] = "held";
  Fixture again(disk);
  for (const char* stage : five) REQUIRE(again.say(Join{stage, 1, ""}));
  bool restored = false;
  for (const auto& restore : again.out.to<Restore>(StageId::routing))
    restored = restored || (restore.key == "keep/2" && restore.value == "held");
  CHECK(restored);
}

TEST_CASE("a snapshot's end is told, with its error") {
  Disk disk;
  Fixture fixture(disk);
  REQUIRE(fixture.say(Snapshot{7, "/new"}));
  REQUIRE(fixture.say(Snapshot{8, "/taken"}));
  const auto done = fixture.out.to<Answer>(StageId::serving);
  REQUIRE(done.size() == 2);
  CHECK(done[0].id == 7);
  CHECK(done[0].error.empty());
  CHECK(done[1].error == "/taken exists already");
}
