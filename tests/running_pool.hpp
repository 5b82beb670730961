// The whole pipeline as threads of the test's own process, and short looks at what it left.
#pragma once

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "actors/models.hpp"
#include "tests/pipeline_fixture.hpp"

namespace kpool::testing {

/// A pipeline that runs in this process until it is stopped.
struct RunningPool {
  explicit RunningPool(const PoolDirectory& pool) {
    spdlog::set_level(spdlog::level::off);
    const Keys keys{pool.daemon, {{pool.gateway.public_key, "ward"}, {pool.rude.public_key, "rude"}}};
    auto parts = load_parts(pool.config);
    if (!parts) FAIL(parts.error().message);
    auto loops = build_pipeline(context, pool.config, keys, *parts);
    if (!loops) FAIL(loops.error().message);
    running.emplace(*std::move(loops), [](const char*) {}, [] {});
  }
  Outcome stop() {
    running->stop();
    return end();
  }
  Outcome end() {
    const Outcome outcome = running->wait();
    running.reset();
    return outcome;
  }
  ~RunningPool() {
    if (running) stop();
  }
  zmq::context_t context;
  std::optional<Running> running;
};

inline std::vector<std::uint64_t> slot_records(const Values& values) {
  std::vector<std::uint64_t> counts;
  const auto routing = nlohmann::json::parse(values.at("routing"));
  for (const auto& slot : routing["slots"]) counts.push_back(slot[1].get<std::uint64_t>());
  return counts;
}

inline std::uint64_t sum(const std::vector<std::uint64_t>& counts) {
  std::uint64_t all = 0;
  for (const auto count : counts) all += count;
  return all;
}

inline std::uint64_t watermark(const Values& values) {
  return nlohmann::json::parse(values.at("source/0"))["watermark"].get<std::uint64_t>();
}

inline const std::string letters = "abcdefghijklmnopqrstuvwxyz the of and", digits = "0123456789 0987654321 1122334455";

}  // namespace kpool::testing
