// The whole pipeline in one process: real sockets, real store, a tiny real model.
#include <unistd.h>

#include "tests/running_pool.hpp"

using namespace kpool;
using namespace kpool::testing;

TEST_CASE("a stream is learned, acknowledged and durable; a restart goes on from there") {
  PoolDirectory pool;
  Values before;
  {
    RunningPool running(pool);
    TestGateway gateway(pool);
    gateway.send(domain_texts(letters, 100));
    CHECK(gateway.client->progress().acknowledged == 100);
    CHECK(gateway.refused.empty());
    CHECK(running.stop().exit_code == 0);
    before = pool.stored();
  }
  CHECK(watermark(before) == 100);
  CHECK(sum(slot_records(before)) == 100);
  CHECK(before.contains("slot/0"));
  CHECK(before.contains("identity/training"));
  {
    RunningPool running(pool);
    TestGateway gateway(pool);
    gateway.offer(domain_texts(letters, 100));  // all known already
    gateway.send(domain_texts(letters + digits, 50));
    CHECK(gateway.client->progress().acknowledged == 150);
    CHECK(running.stop().exit_code == 0);
  }
  const Values after = pool.stored();
  CHECK(watermark(after) == 150);
  CHECK(sum(slot_records(after)) == 150);
  CHECK(after.at("slot/0") != before.at("slot/0"));
  CHECK(std::stoull(after.at("group")) > std::stoull(before.at("group")));
}

TEST_CASE("bad records are refused alone, each with its reason, and the others are learned") {
  PoolDirectory pool;
  RunningPool running(pool);
  TestGateway gateway(pool);
  auto texts = domain_texts(letters, 40);
  texts[3] = "";
  texts[7] = "broken \xff";
  texts[8] = std::string(pool.config.gateway.record_bytes_max + 1, 'x');
  texts[20] = " \n";
  gateway.send(texts);
  const std::vector<std::pair<std::uint64_t, Refusal>> expected = {
      {4, Refusal::empty}, {8, Refusal::not_utf8}, {9, Refusal::too_long}, {21, Refusal::empty}};
  std::sort(gateway.refused.begin(), gateway.refused.end());
  CHECK(gateway.refused == expected);
  CHECK(gateway.client->progress().acknowledged == 36);
  CHECK(running.stop().exit_code == 0);
  CHECK(sum(slot_records(pool.stored())) == 36);
  CHECK(watermark(pool.stored()) == 40);
}

TEST_CASE("slots that a stream does not reach keep their bytes, whatever it trains") {
  PoolDirectory pool;
  RunningPool running(pool);
  TestGateway gateway(pool);
  gateway.send(domain_texts(letters, 150));
  gateway.send(domain_texts(digits, 150));
  const Values before = pool.stored();
  gateway.send(domain_texts(digits, 100));
  const Values after = pool.stored();
  const auto old_counts = slot_records(before), new_counts = slot_records(after);
  int trained = 0, untouched = 0;
  for (std::size_t slot = 0; slot < new_counts.size(); ++slot) {
    const std::string key = "slot/" + std::to_string(slot);
    if (!before.contains(key)) continue;
    if (new_counts[slot] == old_counts[slot]) {
      ++untouched;
      CHECK(after.at(key) == before.at(key));
    } else {
      ++trained;
      CHECK(after.at(key) != before.at(key));
    }
  }
  CHECK(trained >= 1);
  CHECK(untouched >= 1);
}

TEST_CASE("the same stream leaves the same bytes, also when the daemon stops in the middle") {
  std::vector<std::string> texts = domain_texts(letters, 120);
  for (const auto& text : domain_texts(digits, 120)) texts.push_back(text);
  PoolDirectory whole, stopped;
  stopped.gateway = whole.gateway;  // one source, whose key is part of the state
  const bool shares = GENERATE(false, true);  // the encoder's layer with training
  for (PoolDirectory* pool : {&whole, &stopped}) pool->config.lora.layers = shares ? 1 : 0;
  {
    RunningPool running(whole);
    TestGateway(whole).send(texts);
  }
  TestGateway gateway(stopped);
  gateway.offer(texts);
  gateway.client->flush();
  for (const std::uint64_t stop_after : {1, 60, 150}) {
    RunningPool running(stopped);
    gateway.poll_until([&] { return gateway.client->acked_up_to() >= stop_after; });
    CHECK(running.stop().exit_code == 0);
  }
  RunningPool running(stopped);
  gateway.poll_until([&] { return gateway.client->idle(); });
  CHECK(running.stop().exit_code == 0);
  CHECK(gateway.client->progress().acknowledged == texts.size());
  const Values expected = whole.stored(), found = stopped.stored();
  for (const auto& [key, value] : expected) {
    INFO(key);
    CHECK((found.contains(key) && found.at(key) == value));
  }
  CHECK(found.size() == expected.size());
}

TEST_CASE("a pool is refused with another base model, in one sentence that names both") {
  PoolDirectory pool;
  {
    RunningPool running(pool);
    TestGateway(pool).send(domain_texts(letters, 20));
  }
  TinyModel other;
  other.seed = 2;
  write_tiny_model(other, pool.config.base.path);
  RunningPool running(pool);
  const Outcome outcome = running.end();
  CHECK(outcome.exit_code == exit_code(Fault::mismatch));
  CHECK(outcome.message.starts_with("the stored pool was made with base "));
  CHECK(outcome.message.find("use the former model, settings and version, or another store.path") != std::string::npos);
}

TEST_CASE("the stages reach each other by ipc and by tcp as they do within the process") {
  for (const bool by_tcp : {false, true}) {
    PoolDirectory pool;
    pool.config.engine.transport =
        by_tcp ? "tcp:127.0.0.1:" + std::to_string(20000 + getpid() % 20000) : "ipc:" + pool.directory.path();
    RunningPool running(pool);
    TestGateway gateway(pool);
    gateway.send(domain_texts(letters, 60));
    CHECK(gateway.client->progress().acknowledged == 60);
    CHECK(running.stop().exit_code == 0);
    CHECK(sum(slot_records(pool.stored())) == 60);
  }
}
