// The supervisor on CAF's test coordinator: no threads, no clock.
#include <catch2/catch.hpp>

#include <caf/scheduler/test_coordinator.hpp>

#include "actors/supervisor.hpp"

using namespace kpool;
using namespace std::chrono_literals;

namespace {

/// What a child has been told, and how it answers.
struct Child {
  std::vector<std::string> told;
  bool answers_pings = true;
  caf::actor actor;
};

caf::behavior child(caf::event_based_actor* self, Child* record, std::string name, caf::actor parent) {
  return {
      [=](stop_atom) {
        record->told.push_back("stop");
        self->quit();
      },
      [=](drain_atom) { record->told.push_back("drain"); },
      [=](ping_atom, std::uint64_t n) {
        record->told.push_back("ping");
        if (record->answers_pings) self->send(parent, pong_atom::value, name, n);
      },
  };
}

struct Fixture {
  Fixture() : system(configured()), coordinator(dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())) {
    SupervisorOptions options;
    options.notify = [this](const char* state) { notified += state + std::string(";"); };
    options.on_end = [this](Outcome outcome) { ended.push_back(std::move(outcome)); };
    boss = system.spawn(supervisor, std::move(options));
    for (auto& [name, record] : children) {
      record.actor = system.spawn(child, &record, name, boss);
      caf::anon_send(boss, adopt_atom::value, name, record.actor);
    }
    caf::anon_send(boss, start_atom::value);
    coordinator.run();
  }
  ~Fixture() {
    caf::anon_send(boss, stop_atom::value);
    coordinator.run();
    boss = nullptr;
    for (auto& [name, record] : children) record.actor = nullptr;
  }
  caf::actor_system_config& configured() {
    config.set("scheduler.policy", caf::atom("testing"));
    return config;
  }
  template <class... Message>
  void tell(Message... message) {
    caf::anon_send(boss, std::move(message)...);
    coordinator.run();
  }
  void all_ready() {
    for (auto& [name, record] : children) tell(ready_atom::value, name);
  }
  void tick() {
    coordinator.advance_time(5s);
    coordinator.run();
  }
  std::size_t watchdogs() const {
    std::size_t count = 0;
    const std::string word = "WATCHDOG=1";
    for (auto at = notified.find(word); at != std::string::npos; at = notified.find(word, at + 1)) ++count;
    return count;
  }
  bool stopped(const std::string& name) const {
    const auto& told = children.at(name).told;
    return !told.empty() && told.back() == "stop";
  }

  caf::actor_system_config config;
  std::string notified;
  std::vector<Outcome> ended;
  std::map<std::string, Child> children{{"ingestion", {}}, {"training", {}}};
  caf::actor_system system;
  caf::scheduler::test_coordinator& coordinator;
  caf::actor boss;
};

}  // namespace

TEST_CASE("READY is said once all children are ready") {
  Fixture fixture;
  fixture.tell(ready_atom::value, std::string("ingestion"));
  CHECK(fixture.notified.empty());
  fixture.tell(ready_atom::value, std::string("training"));
  CHECK(fixture.notified == "READY=1\nSTATUS=learning;");
}

TEST_CASE("one failure stops all, and its exit code and sentence are the outcome") {
  Fixture fixture;
  fixture.all_ready();
  fixture.tell(failed_atom::value, std::string("training"), 76, std::string("another base"));
  CHECK(fixture.stopped("ingestion"));
  CHECK(fixture.stopped("training"));
  REQUIRE(fixture.ended.size() == 1);
  CHECK(fixture.ended[0].exit_code == 76);
  CHECK(fixture.ended[0].message == "another base");
}

TEST_CASE("the first failure counts") {
  Fixture fixture;
  caf::anon_send(fixture.boss, failed_atom::value, std::string("training"), 74, std::string("first"));
  fixture.tell(failed_atom::value, std::string("ingestion"), 70, std::string("second"));
  REQUIRE(fixture.ended.size() == 1);
  CHECK(fixture.ended[0].exit_code == 74);
  CHECK(fixture.ended[0].message == "first");
}

TEST_CASE("a child that ends unasked is a failure") {
  Fixture fixture;
  caf::anon_send_exit(fixture.children.at("training").actor, caf::exit_reason::kill);
  fixture.coordinator.run();
  CHECK(fixture.stopped("ingestion"));
  REQUIRE(fixture.ended.size() == 1);
  CHECK(fixture.ended[0].exit_code == 70);
}

TEST_CASE("to drain, ingestion is asked first; all stop when it is done") {
  Fixture fixture;
  fixture.all_ready();
  fixture.tell(drain_atom::value);
  CHECK(fixture.children.at("ingestion").told.back() == "drain");
  CHECK_FALSE(fixture.stopped("training"));
  CHECK(fixture.ended.empty());
  fixture.tell(drained_atom::value, std::string("ingestion"));
  CHECK(fixture.stopped("training"));
  REQUIRE(fixture.ended.size() == 1);
  CHECK(fixture.ended[0].exit_code == 0);
  CHECK(fixture.notified.find("STOPPING=1") != std::string::npos);
}

TEST_CASE("a drain that takes too long ends by the clock") {
  Fixture fixture;
  fixture.tell(drain_atom::value);
  fixture.coordinator.advance_time(4s);
  fixture.coordinator.run();
  CHECK(fixture.ended.empty());
  fixture.coordinator.advance_time(1s);
  fixture.coordinator.run();
  CHECK(fixture.ended.size() == 1);
}

TEST_CASE("the watchdog is fed only by an answer of every child to the last ping") {
  Fixture fixture;
  fixture.tick();
  fixture.tick();
  CHECK(fixture.watchdogs() == 2);
  fixture.children.at("training").answers_pings = false;
  fixture.tick();  // the answers to the ping before were complete
  CHECK(fixture.watchdogs() == 3);
  fixture.tick();
  fixture.tick();
  CHECK(fixture.watchdogs() == 3);
  fixture.tell(pong_atom::value, std::string("training"), std::uint64_t{3});
  fixture.tick();
  CHECK(fixture.watchdogs() == 4);
}

TEST_CASE("a child that fails before its siblings are adopted takes them with it all the same") {
  caf::actor_system_config config;
  config.set("scheduler.policy", caf::atom("testing"));
  caf::actor_system system(config);
  auto& coordinator = dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
  std::vector<Outcome> ended;
  SupervisorOptions options;
  options.notify = [](const char*) {};
  options.on_end = [&](Outcome outcome) { ended.push_back(std::move(outcome)); };
  auto boss = system.spawn(supervisor, std::move(options));
  Child first, second;
  first.actor = system.spawn(child, &first, "persistence", boss);
  second.actor = system.spawn(child, &second, "training", boss);
  caf::anon_send(boss, adopt_atom::value, std::string("persistence"), first.actor);
  caf::anon_send(boss, failed_atom::value, std::string("persistence"), 69, std::string("the store is in use"));
  coordinator.run();
  CHECK(first.told == std::vector<std::string>{"stop"});
  CHECK(ended.empty());  // there may be more children
  caf::anon_send(boss, adopt_atom::value, std::string("training"), second.actor);
  caf::anon_send(boss, start_atom::value);
  coordinator.run();
  CHECK(second.told == std::vector<std::string>{"stop"});
  REQUIRE(ended.size() == 1);
  CHECK(ended[0].exit_code == 69);
  first.actor = second.actor = boss = nullptr;
}
