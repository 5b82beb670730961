// What ingestion knows of each source: its numbering, how far it is received, released and durable,
// and what was refused. Owned by the ingestion stage, used on its thread alone.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/stage.hpp"
#include "core/record.hpp"
#include "messages/gateway.hpp"

namespace kpool {

/// One numbering (epoch) of one gateway. A new epoch gets a new index, so that what is still in the
/// pipeline under the old one cannot be mistaken.
struct Source {
  std::string key;   ///< CURVE public key, as the handshake proved it
  std::uint64_t epoch = 0;
  std::uint64_t watermark = 0;  ///< durable or refused up to here
  std::uint64_t received = 0;   ///< taken in up to here
  std::uint64_t released = 0;   ///< sent into the pipeline up to here
  std::uint64_t bytes_open = 0; ///< text taken in and not yet durable
  std::optional<std::uint64_t> flush_at;
  std::string route;            ///< ROUTER's routing id of the connection; empty: none
  Clock::time_point seen{};
  std::map<std::uint64_t, Refusal> refused;  ///< what the gateway may not know yet
  bool changed = false;         ///< since the last barrier
  bool stored = false;          ///< a barrier has carried it
};

class SourceTable {
 public:
  using Index = std::uint32_t;
  /// The index of the key's present epoch.
  std::optional<Index> find(const std::string& key) const;
  Source& at(Index index);
  Source* find(Index index);
  /// Opens an epoch; an earlier one of the same key is dropped (its value, if stored, at the next barrier).
  Index open(const std::string& key, std::uint64_t epoch);
  Status restore(Index index, const std::string& value);
  static std::string save(const Source& source);
  const std::map<Index, Source>& all() const { return sources_; }
  std::map<Index, Source>& all() { return sources_; }
  /// Indices dropped since the last call.
  std::vector<Index> take_dropped();
  /// Did it talk lately, or has it records open?
  static bool is_active(const Source& source, Clock::time_point now);
  std::size_t active(Clock::time_point now) const;

  /// Refusals of a committed group: kept until the gateway is known to have them, at most
  /// `refusals_max`, the oldest dropped first.
  void add_refusals(std::uint64_t group, const std::vector<RefusedRecord>& refused);
  void forget_refusals(Index index, std::uint64_t up_to);
  /// Groups none of whose refusals is needed any longer; each is given once.
  std::vector<std::uint64_t> take_settled_groups();

  static constexpr std::size_t refusals_max = 65536;
  /// Of one source; beyond it, the gateway must say hello again, which tells what it knows already.
  static constexpr std::size_t source_refusals_max = 4096;

 private:
  struct RefusalGroup {
    std::uint64_t group;
    std::vector<Origin> origins;
  };
  void forget_oldest_group();

  std::map<Index, Source> sources_;
  std::map<std::string, Index> by_key_;
  Index next_ = 0;
  std::vector<Index> dropped_;
  std::deque<RefusalGroup> refusal_groups_;
  std::size_t refusals_ = 0;
  std::vector<std::uint64_t> settled_;
};

}  // namespace kpool
