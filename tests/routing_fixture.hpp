// The routing stage around a scripted router.
#pragma once

#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "actors/routing.hpp"
#include "tests/actors_support.hpp"

namespace kpool::testing {

using namespace kpool::pipeline;

struct RoutingScript {
  std::map<Ticket, std::vector<Decision>> on_route;
  std::vector<Decision> on_barrier;
  std::vector<std::uint32_t> eviction_order;
  std::string restored;
  std::map<std::uint32_t, bool> pinned;
  std::optional<MergePair> candidate, agreed;
};

class ScriptedRouter : public Router {
 public:
  explicit ScriptedRouter(RoutingScript& script) : script_(script) {}
  std::vector<Decision> route(Ticket ticket, std::span<const float>, std::uint32_t) override {
    return script_.on_route[ticket];
  }
  std::vector<Decision> barrier() override { return std::exchange(script_.on_barrier, {}); }
  void set_eviction_order(std::vector<std::uint32_t> order) override { script_.eviction_order = std::move(order); }
  void pin(std::uint32_t slot, bool pinned) override { script_.pinned[slot] = pinned; }
  std::optional<MergePair> merge_candidate() const override { return script_.candidate; }
  void set_agreement(const std::optional<MergePair>& pair) override { script_.agreed = pair; }
  std::optional<std::uint32_t> classify(std::span<const float>) const override { return std::nullopt; }
  std::vector<double> posterior(std::span<const float>) const override { return {}; }
  std::string save() const override { return "the mixture"; }
  Status restore(std::string_view bytes) override {
    script_.restored = bytes;
    return Done{};
  }

 private:
  RoutingScript& script_;
};

struct RoutingFixture {
  explicit RoutingFixture(bool deterministic = false)
      : routing(std::make_unique<ScriptedRouter>(script), {3, deterministic}, "identity") {}
  void records(std::uint64_t first, std::uint64_t count) {
    EncodedRecords frame;
    for (std::uint64_t i = 0; i < count; ++i)
      frame.records.push_back({{0, first + i}, 1, {static_cast<std::int32_t>(first + i), 2}, {0.5f}, {7, {0.25f}}});
    REQUIRE(routing.on_message(std::move(frame), out));
  }
  void say(Message message) { REQUIRE(routing.on_message(std::move(message), out)); }
  /// "slot:seq,seq" per frame.
  std::string frames() const {
    std::string text;
    for (const auto& frame : out.to<Routed>(StageId::training)) {
      text += (text.empty() ? "" : " ") + std::to_string(frame.slot) + ":";
      for (std::size_t i = 0; i < frame.samples.size(); ++i) {
        text += (i ? "," : "") + std::to_string(frame.samples[i].origin.seq);
        const HiddenStates& hidden = frame.samples[i].hidden;
        CHECK((hidden.layers == 7 && hidden.values == std::vector<float>{0.25f}));
      }
    }
    return text;
  }
  RoutingScript script;
  FakeOutbox out;
  Routing routing;
};

inline std::string log_of(const std::function<void()>& work) {
  std::ostringstream log;
  const auto former = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("log", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  work();
  spdlog::set_default_logger(former);
  return log.str();
}

}  // namespace kpool::testing
