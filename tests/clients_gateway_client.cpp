#include "clients/gateway_client.hpp"

#include <catch2/catch.hpp>

#include "tests/clients_fake_daemon.hpp"

using namespace kpool;
using namespace std::chrono_literals;
using kpool::testing::FakeDaemon;

namespace {

using Clock = std::chrono::steady_clock;

// One daemon, one gateway whose key it knows, and the loop that drives both.
struct Line {
  FakeDaemon daemon;
  GatewayClientOptions options;
  std::vector<std::pair<std::uint64_t, Refusal>> refused;
  std::unique_ptr<GatewayClient> client;
  Status last = Done{};

  Line() {
    options.keys = kpool::testing::new_key_pair();
    options.endpoint = daemon.endpoint();
    options.server_public_key = daemon.keys.public_key;
    options.silence = 300ms;
    daemon.allowed = {options.keys.public_key};
  }
  void open() {
    client.reset();
    auto opened = GatewayClient::open(options, [&](auto seq, auto reason) { refused.emplace_back(seq, reason); });
    REQUIRE(opened);
    client = std::move(*opened);
  }
  void offer(std::uint64_t from, std::uint64_t to, std::size_t bytes = 20) {
    for (std::uint64_t seq = from; seq <= to; ++seq) {
      REQUIRE(client->offer(seq, {std::to_string(seq) + std::string(bytes, '.'), 0}));
    }
  }
  void round() {
    daemon.step();
    last = client->poll(1ms);
  }
  bool run_until(const std::function<bool()>& done, std::chrono::milliseconds limit = 20s) {
    const auto end = Clock::now() + limit;
    while (!done()) {
      if (Clock::now() > end || !last) return false;
      round();
    }
    return true;
  }
};

bool holds_all(const FakeDaemon& daemon, std::uint64_t count) {
  return daemon.durable.size() == count && daemon.durable.rbegin()->first == count && daemon.applied_twice == 0;
}

}  // namespace

TEST_CASE("records arrive in order, are acknowledged and given up") {
  Line line;
  line.open();
  line.offer(1, 5000);
  CHECK_FALSE(line.client->idle());
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(holds_all(line.daemon, 5000));
  const auto progress = line.client->progress();
  CHECK((progress.offered == 5000 && progress.acknowledged == 5000 && progress.refused == 0 && progress.resent == 0));
  CHECK((progress.connected && progress.trouble.empty()));
  CHECK(line.daemon.messages < 20);  // batches, not single records
}

TEST_CASE("after lost acknowledgements all is sent again and nothing is applied twice") {
  Line line;
  line.daemon.loses_acks = true;
  line.open();
  line.offer(1, 100);
  REQUIRE(line.run_until([&] { return line.daemon.watermark == 100; }));
  line.daemon.restart();
  line.daemon.loses_acks = false;
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(holds_all(line.daemon, 100));
  CHECK(line.client->progress().reconnects >= 1);
}

TEST_CASE("what a restarting daemon had not made durable is sent again") {
  Line line;
  line.daemon.commits_at_once = false;
  line.open();
  line.offer(1, 100);
  REQUIRE(line.run_until([&] { return line.daemon.received == 100; }));
  line.daemon.restart();
  line.daemon.commits_at_once = true;
  line.offer(101, 150);
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(holds_all(line.daemon, 150));
  CHECK(line.client->progress().resent >= 100);
}

TEST_CASE("many restarts in one stream lose nothing") {
  Line line;
  line.open();
  std::uint64_t offered = 0;
  for (int restart = 0; restart < 5; ++restart) {
    line.offer(offered + 1, offered + 200);
    offered += 200;
    line.daemon.commits_at_once = restart % 2 == 0;
    REQUIRE(line.run_until([&] { return line.daemon.received + 100 >= offered; }));
    line.daemon.restart();
  }
  line.daemon.commits_at_once = true;
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(holds_all(line.daemon, offered));
}

TEST_CASE("a gateway that starts again is told where to go on") {
  Line line;
  line.open();
  line.offer(1, 60);
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  line.options.last_acked = 20;  // its own memory is older than the daemon's
  line.open();
  REQUIRE(line.run_until([&] { return line.client->progress().connected; }));
  CHECK(line.client->resume_at() == 61);
  line.offer(21, 90);
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(holds_all(line.daemon, 90));
  CHECK(line.daemon.duplicates == 0);
  CHECK(line.client->progress().acknowledged == 70);
}

TEST_CASE("no more than the credit is ever in flight") {
  Line line;
  line.daemon.credit_bytes = 1000;
  line.daemon.commits_at_once = false;
  line.open();
  line.offer(1, 100, 90);
  while (line.daemon.watermark < 100) {
    REQUIRE(line.run_until([&] { return line.daemon.received > line.daemon.watermark; }));
    for (int i = 0; i < 5; ++i) line.round();
    line.daemon.commit();
  }
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(line.daemon.bytes_in_flight_max <= 1000);
  CHECK(line.daemon.bytes_in_flight_max > 800);
  CHECK(holds_all(line.daemon, 100));
}

TEST_CASE("a full gateway takes no more until something is acknowledged") {
  Line line;
  line.options.hold_bytes_max = 10000;
  line.open();
  std::uint64_t seq = 1;
  while (line.client->offer(seq, {std::string(936, 'x'), 0})) ++seq;
  CHECK(seq == 11);
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(line.client->offer(seq, {"more", 0}));
}

TEST_CASE("a refusal is reported once, with its number, and counted") {
  Line line;
  line.daemon.refuses = [](std::uint64_t seq, const std::string&) {
    return seq % 10 == 0 ? std::optional(Refusal::not_utf8) : std::nullopt;
  };
  line.daemon.loses_acks = true;
  line.open();
  line.offer(1, 25);
  REQUIRE(line.run_until([&] { return line.daemon.watermark == 25; }));
  line.daemon.restart();  // the refusals come with the welcome
  line.daemon.loses_acks = false;
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  line.offer(26, 30);
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(line.refused == std::vector<std::pair<std::uint64_t, Refusal>>{
                            {10, Refusal::not_utf8}, {20, Refusal::not_utf8}, {30, Refusal::not_utf8}});
  const auto progress = line.client->progress();
  CHECK((progress.refused == 3 && progress.acknowledged == 27 && progress.offered == 30));
}

TEST_CASE("an over-long record is refused by the daemon alone") {
  Line line;
  line.daemon.record_bytes_max = 100;
  line.open();
  REQUIRE(line.client->offer(1, {"short", 0}));
  REQUIRE(line.client->offer(2, {std::string(5u << 20, 'x'), 0}));
  REQUIRE(line.client->offer(3, {"short", 0}));
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(line.refused == std::vector<std::pair<std::uint64_t, Refusal>>{{2, Refusal::too_long}});
  CHECK(line.daemon.durable.size() == 2);
}

TEST_CASE("a flush asks for a commit of what was offered") {
  Line line;
  line.daemon.commits_at_once = false;
  line.open();
  line.offer(1, 3);
  line.client->flush();
  REQUIRE(line.run_until([&] { return line.daemon.flushes == 1; }));
  line.daemon.commit();
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
}

TEST_CASE("an unknown key gets nothing, is told so, and goes on once it is known") {
  Line line;
  line.daemon.allowed.clear();
  line.open();
  line.offer(1, 10);
  REQUIRE(line.run_until([&] { return !line.client->progress().trouble.empty(); }));
  CHECK(line.client->progress().trouble.find("authorized keys") != std::string::npos);
  CHECK(line.client->progress().trouble.find(line.options.keys.public_key) != std::string::npos);
  CHECK(line.daemon.messages == 0);
  line.daemon.allowed = {line.options.keys.public_key};
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(line.client->progress().trouble.empty());
}

TEST_CASE("a wrong server key gets nothing and is named as the likely cause") {
  Line line;
  line.options.server_public_key = kpool::testing::new_key_pair().public_key;
  line.open();
  line.offer(1, 10);
  REQUIRE(line.run_until([&] { return line.client->progress().trouble.find("server key") != std::string::npos; }));
  CHECK(line.daemon.messages == 0);
  CHECK(line.last);  // it goes on trying
}

TEST_CASE("an absent daemon is named, and found once it is there") {
  Line line;
  line.daemon.stop();
  line.open();
  line.offer(1, 10);
  REQUIRE(line.run_until([&] { return !line.client->progress().trouble.empty(); }));
  CHECK(line.client->progress().trouble ==
        "nobody answers at " + line.daemon.endpoint() + "; is the daemon running there?");
  line.daemon.start();
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
}

TEST_CASE("a daemon that falls silent is asked and then connected anew") {
  Line line;
  line.open();
  REQUIRE(line.run_until([&] { return line.client->progress().connected; }));
  const auto hellos = line.daemon.hellos;
  const auto end = Clock::now() + 10s;
  while (line.client->progress().connected && Clock::now() < end) line.last = line.client->poll(5ms);  // no step()
  CHECK_FALSE(line.client->progress().connected);
  line.offer(1, 10);
  REQUIRE(line.run_until([&] { return line.client->idle(); }));
  CHECK(line.daemon.hellos > hellos);
}

TEST_CASE("an endpoint that is none is refused at once") {
  GatewayClientOptions options;
  options.keys = kpool::testing::new_key_pair();
  options.server_public_key = options.keys.public_key;
  options.endpoint = "tcp:/nonsense";
  auto opened = GatewayClient::open(options, nullptr);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().fault == Fault::usage);
  CHECK(opened.error().message.find("tcp:/nonsense") == 0);
}

TEST_CASE("a million records cross with restarts in between", "[.full]") {
  Line line;
  line.daemon.credit_bytes = 8u << 20;
  line.open();
  constexpr std::uint64_t total = 1000000;
  std::uint64_t seq = 1, restart_at = total / 5;
  const auto end = Clock::now() + 300s;
  while (!(seq > total && line.client->idle()) && Clock::now() < end) {
    while (seq <= total && line.client->offer(seq, {std::to_string(seq) + ": a small record of text", 0})) ++seq;
    line.round();
    if (line.daemon.received > restart_at) {
      line.daemon.restart();
      restart_at += total / 5;
    }
  }
  CHECK(holds_all(line.daemon, total));
  CHECK(line.client->progress().acknowledged == total);
}
