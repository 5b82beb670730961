// Ingestion: takes records from gateways within their credit, checks them, numbers groups and sends
// records and barriers down the pipeline; acknowledges what persistence says is durable.
// Owns the source table and the group that is open. A stage: one thread, no socket (gateway_door.hpp
// has the socket and calls on_gateway).
#pragma once

#include <deque>
#include <functional>

#include "actors/source_table.hpp"
#include "config/config.hpp"

namespace kpool {

/// How ingestion answers a gateway. False: the connection is gone or its queue is full.
using GatewaySend = std::function<bool(const std::string& route, const gateway::Message& message)>;

class Ingestion : public Stage {
 public:
  Ingestion(const Config& config, GatewaySend send);

  StageId id() const override { return StageId::ingestion; }
  Status restore(const std::string& key, std::string value) override;
  Status start(std::uint64_t group, Outbox& out) override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  bool has_work() const override;
  Status work(Outbox& out) override;
  std::optional<Clock::time_point> deadline() const override;
  Status on_deadline(Clock::time_point now, Outbox& out) override;
  void drain(Outbox& out) override;
  bool drained() const override { return draining_ && (groups_.empty() || deterministic_); }
  std::string report() const override;

  /// One message of the gateway with this proven key. `route` is where answers go.
  void on_gateway(const std::string& key, const std::string& route, Result<gateway::Message> message);

 private:
  using Index = SourceTable::Index;
  struct Accepted {
    Record record;
    std::optional<Refusal> refusal;
    std::uint64_t bytes = 0;  ///< as received: what the gateway counts against its credit
  };
  struct SourceShare { std::uint64_t up_to = 0, bytes = 0; };
  struct Group {
    std::uint64_t number = 0;
    std::map<Index, SourceShare> sources;
  };

  void on_hello(const std::string& key, const std::string& route, const gateway::Hello& hello);
  Index begin_epoch(const std::string& key, std::uint64_t epoch);
  void welcome(Index index, const gateway::Hello& hello);
  void on_data(Index index, gateway::Data& data);
  std::uint64_t credit_of(const gateway::OutgoingRecord& record) const;
  void accept(Index index, std::uint64_t seq, gateway::OutgoingRecord& record);
  std::optional<Refusal> check(const Record& record) const;
  void on_flush(Index index, const gateway::Flush& flush);
  void acknowledge(Index index, std::vector<gateway::RefusedSeq> refused);
  void refuse(const std::string& route, gateway::RefuseReason reason, std::string detail, bool final,
              std::uint64_t expected = 0);
  void on_durable(const pipeline::Durable& durable);
  void release(Outbox& out);
  void barrier(Outbox& out);
  bool group_is_full() const;
  bool flush_is_due() const;
  std::uint64_t source_credit_bytes() const;

  const CommitConfig commit_;
  const GatewayConfig gateway_;
  const bool deterministic_;
  const GatewaySend send_;
  SourceTable sources_;
  std::map<std::uint64_t, std::vector<RefusedRecord>> restored_refusals_;  ///< until the sources are there too
  std::deque<Accepted> accepted_;  ///< not yet released; bounded by the sum of credits
  std::deque<Group> groups_;       ///< released and not yet durable; at most commit.groups_in_flight
  Group open_;                     ///< the group that takes records now
  std::uint64_t open_bytes_ = 0, open_records_ = 0;
  Clock::time_point open_since_{};
  std::uint64_t group_ = 0;        ///< number of the last barrier
  bool started_ = false, draining_ = false;
  std::uint64_t total_records_ = 0, total_refused_ = 0, regressions_ = 0, durable_records_ = 0;
};

}  // namespace kpool
