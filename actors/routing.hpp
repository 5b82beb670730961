// Routing: the online mixture decides which slot each record trains and when a slot is born. Owns the
// router, the records that it holds back, and which slots an operator has pinned or put on hold. A stage: one thread,
// no socket.
#pragma once

#include <unordered_map>

#include "actors/stage.hpp"
#include "core/router.hpp"

namespace kpool {

struct RoutingStageOptions {
  std::uint32_t slots = 5;
  bool deterministic = false;  ///< a group is routed only once the ranking of the group before it is here
};

class Routing : public Stage {
 public:
  Routing(std::unique_ptr<Router> router, RoutingStageOptions options, std::string identity);
  StageId id() const override { return StageId::routing; }
  std::string identity() const override { return identity_; }
  Status restore(const std::string& key, std::string value) override;
  Status start(std::uint64_t group, Outbox& out) override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  bool accepts_records() const override { return !options_.deterministic || ranked_group_ == group_; }
  std::string report() const override;

 private:
  struct SlotCount { std::uint64_t generation = 0, records = 0; };
  /// What an operator wants of a slot; durable for itself, under keep/<slot>.
  struct Kept {
    bool pinned = false, held = false;
    std::string text() const;
  };
  void carry_out(std::vector<Decision> decisions, Outbox& out);
  void explain(const Verdict& verdict);
  void open(const Birth& birth, Outbox& out);
  std::string evicted(std::uint32_t slot) const;
  void assign(const Assignment& assignment, Outbox& out);
  void change(const pipeline::Change& wish, Outbox& out);
  void keep(std::size_t slot, const Kept& kept);
  void send_routed(Outbox& out);
  void barrier(std::uint64_t group, Outbox& out);
  std::string save_counts() const;

  std::unique_ptr<Router> router_;
  const RoutingStageOptions options_;
  const std::string identity_;
  std::unordered_map<Ticket, Sample> held_;
  Ticket next_ticket_ = 0;
  pipeline::Routed routed_;            ///< being filled: consecutive samples of one slot
  std::vector<SlotCount> counts_;      ///< per slot, durable
  std::vector<Kept> kept_;             ///< per slot
  std::vector<SlotScore> ranking_;     ///< most expendable first; empty until the first group is scored
  std::uint64_t group_ = 0, ranked_group_ = 0;
  std::uint64_t births_ = 0, evictions_ = 0, merges_ = 0, joins_ = 0;  ///< durable, as is:
  std::uint64_t without_room_ = 0;     ///< how often a new domain found no slot that may be evicted
  bool said_without_room_ = false;     ///< logged for this group
  pipeline::Refused refused_;          ///< records of slots on hold, not yet sent
};

}  // namespace kpool
