// Ingestion with a fake gateway side and a fake pipeline side.
#pragma once

#include <catch2/catch.hpp>

#include "actors/ingestion.hpp"
#include "tests/actors_support.hpp"

namespace kpool::testing {

inline Config small_config() {
  Config config;
  config.commit.bytes = 100;
  config.commit.records_max = 8;
  config.commit.groups_in_flight = 2;
  config.gateway.credit_bytes = 1000;
  config.gateway.credit_records = 50;
  config.gateway.sources_max = 2;
  config.gateway.record_bytes_max = 64;
  return config;
}

struct IngestionFixture {
  explicit IngestionFixture(Config config = small_config(), bool start = true)
      : ingestion(config, [this](const std::string& route, const gateway::Message& message) {
          if (delivers) sent.emplace_back(route, message);
          return delivers;
        }) {
    if (start) REQUIRE(ingestion.start(0, out));
  }

  void say(gateway::Message message, const std::string& key = "K", const std::string& route = "r") {
    ingestion.on_gateway(key, route, std::move(message));
  }
  void hello(std::uint64_t epoch = 1, std::uint64_t last_acked = 0, const std::string& key = "K",
             const std::string& route = "r") {
    say(gateway::Hello{gateway::protocol_version, epoch, last_acked, last_acked + 1}, key, route);
  }
  void data(std::uint64_t first, std::vector<std::string> texts, const std::string& key = "K",
            const std::string& route = "r", std::uint64_t epoch = 1) {
    gateway::Data message{epoch, first, {}};
    for (auto& text : texts) message.records.push_back({std::move(text), 0});
    say(std::move(message), key, route);
  }
  /// Works until there is no more to do.
  void work() {
    for (int i = 0; ingestion.has_work(); ++i) {
      REQUIRE(i < 1000);
      REQUIRE(ingestion.work(out));
    }
  }
  void durable(std::uint64_t group, std::vector<RefusedRecord> refused = {}) {
    REQUIRE(ingestion.on_message(pipeline::Durable{group, std::move(refused)}, out));
  }
  /// The last message to a gateway, which must be a T.
  template <class T>
  T last() const {
    REQUIRE_FALSE(sent.empty());
    REQUIRE(std::holds_alternative<T>(sent.back().second));
    return std::get<T>(sent.back().second);
  }
  gateway::Refuse refusal(gateway::RefuseReason reason) const {
    const auto refuse = last<gateway::Refuse>();
    CHECK(refuse.reason == reason);
    return refuse;
  }
  std::vector<std::uint64_t> barriers() const {
    std::vector<std::uint64_t> groups;
    for (const auto& barrier : out.to<pipeline::Barrier>(StageId::encoding)) groups.push_back(barrier.group);
    return groups;
  }
  std::vector<std::uint64_t> released() const {
    std::vector<std::uint64_t> seqs;
    for (const auto& frame : out.all<pipeline::Records>())
      for (const auto& record : frame.records) seqs.push_back(record.origin.seq);
    return seqs;
  }

  bool delivers = true;
  std::vector<std::pair<std::string, gateway::Message>> sent;
  FakeOutbox out;
  Ingestion ingestion;
};

}  // namespace kpool::testing
