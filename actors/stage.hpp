// What every stage is: a plain class that takes messages and gives messages. No socket and no CAF in
// it, so it is tested without either; the shell (stage_loop.hpp) owns it and calls it on one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "messages/pipeline.hpp"

namespace kpool {

using Clock = std::chrono::steady_clock;

enum class StageId : std::uint8_t { ingestion, encoding, routing, training, fragility, persistence, serving };
inline constexpr std::size_t stage_count = 7;

const char* name(StageId id);
std::optional<StageId> stage_named(std::string_view name);

/// Where a stage puts what it has to say. Never blocks; what does not fit into a socket waits in the
/// shell, which then gives the stage no further records.
class Outbox {
 public:
  virtual ~Outbox() = default;
  virtual void send(StageId to, pipeline::Message message) = 0;
};

/// An error returned by any of these ends the process: what is wrong with a record is a refusal instead.
class Stage {
 public:
  virtual ~Stage() = default;
  virtual StageId id() const = 0;
  /// Called first, on the stage's own thread: load what is slow to load.
  virtual Status open() { return Done{}; }
  /// What the stage's durable state depends on (base model, shapes); a stored pool with another
  /// identity is refused.
  virtual std::string identity() const { return {}; }
  /// One value of the last commit. May be called twice with the same value.
  virtual Status restore(const std::string& key, std::string value);
  /// All values are restored; the next group is `group` + 1.
  virtual Status start(std::uint64_t group, Outbox& out);
  virtual Status on_message(pipeline::Message message, Outbox& out) = 0;
  /// False: records stay in the socket (back-pressure); control messages still come.
  virtual bool accepts_records() const { return true; }
  /// Work in hand, done in pieces so that control is answered between them.
  virtual bool has_work() const { return false; }
  virtual Status work(Outbox&) { return Done{}; }
  virtual std::optional<Clock::time_point> deadline() const { return std::nullopt; }
  virtual Status on_deadline(Clock::time_point, Outbox&) { return Done{}; }
  /// Stop taking in; true once nothing more is to be waited for.
  virtual void drain(Outbox&) {}
  virtual bool drained() const { return true; }
  /// A JSON object for operators: counts and states, never content.
  virtual std::string report() const = 0;
};

}  // namespace kpool
