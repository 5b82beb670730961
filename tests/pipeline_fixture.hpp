// A whole pool for one test: a tiny model, keys, a configuration, a real store, and a gateway client.
#pragma once

#include <catch2/catch.hpp>

#include <chrono>
#include <memory>
#include <mutex>

#include "clients/gateway_client.hpp"
#include "clients/keys.hpp"
#include "config/config.hpp"
#include "storage/store.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

namespace kpool::testing {

/// Everything on disk that a daemon needs, in one directory.
struct PoolDirectory {
  PoolDirectory()
      : daemon(made(create_keys(directory.path(), "daemon"))),
        gateway(made(create_keys(directory.path(), "gateway"))),
        rude(made(create_keys(directory.path(), "rude"))) {
    write_tiny_model({}, directory.file("tiny.gguf"));
    config.base.path = directory.file("tiny.gguf");
    config.encoder.kind = "base:1";
    config.routing.slots = config.eviction.slots = 4;
    config.lora.rank = 4;
    config.train.tokens_per_step = 64;
    config.train.threads = 1;
    config.commit.bytes = 1024;
    config.gateway.listen = "ipc://" + directory.file("gateway.sock");
    config.gateway.secret_key_file = directory.file("daemon.key");
    config.gateway.authorized_keys_file = directory.file("authorized");
    config.gateway.sources_max = 2;
    config.store.path = directory.file("store");
    config.admin.socket = "ipc://" + directory.file("admin.sock");
    config.engine.journal = directory.file("journal");
    config.engine.deterministic = true;
  }
  static KeyPair made(Result<KeyPair> keys) {
    REQUIRE(keys);
    return *keys;
  }
  /// What the last commit left.
  Values stored() const {
    auto store = open_store_read_only(config.store.path);
    REQUIRE(store);
    auto values = (*store)->load();
    REQUIRE(values);
    return *std::move(values);
  }

  TemporaryDirectory directory;
  KeyPair daemon, gateway, rude;  ///< two sources: one behaves, one need not
  Config config;
};

/// A gateway client that offers records and waits for their end.
struct TestGateway {
  explicit TestGateway(const PoolDirectory& pool, std::uint64_t last_acked = 0) {
    GatewayClientOptions options;
    options.endpoint = pool.config.gateway.listen;
    options.server_public_key = pool.daemon.public_key;
    options.keys = pool.gateway;
    options.last_acked = last_acked;
    auto opened = GatewayClient::open(options, [this](std::uint64_t seq, Refusal reason) {
      refused.emplace_back(seq, reason);
    });
    REQUIRE(opened);
    client = *std::move(opened);
    next = last_acked + 1;
  }
  void offer(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      gateway::OutgoingRecord record{text, 0};
      REQUIRE(client->offer(next++, std::move(record)));
    }
  }
  /// Until all that was offered is acknowledged or refused, or `enough` says so.
  template <class Enough>
  void poll_until(Enough&& enough) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!enough()) {
      REQUIRE(std::chrono::steady_clock::now() < until);
      const Status polled = client->poll(std::chrono::milliseconds(20));
      if (!polled) FAIL(polled.error().message);
    }
  }
  void send(const std::vector<std::string>& texts) {
    offer(texts);
    client->flush();
    poll_until([this] { return client->idle(); });
  }

  std::vector<std::pair<std::uint64_t, Refusal>> refused;
  std::unique_ptr<GatewayClient> client;
  std::uint64_t next = 1;
};

/// Records of one domain, each different; the same for the same arguments.
inline std::vector<std::string> domain_texts(const std::string& words, int count) {
  std::vector<std::string> texts;
  std::uint64_t state = words.size();
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int k = 0; k < 10; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text += words.substr((state >> 33) % (words.size() - 4), 4) + " ";
    }
    texts.push_back(text);
  }
  return texts;
}

}  // namespace kpool::testing
