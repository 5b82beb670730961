// Fragility: scores of every slot and the ranking that routing evicts by, and what the pool loses to what. Owns the
// statistics.
// A stage: one thread, no socket.
#pragma once

#include "actors/stage.hpp"
#include "core/fragility.hpp"
#include "core/ledger.hpp"

namespace kpool {

class FragilityStage : public Stage {
 public:
  explicit FragilityStage(const FragilityOptions& options)
      : fragility_(options), ledger_(options.slots) {}
  StageId id() const override { return StageId::fragility; }
  Status restore(const std::string& key, std::string value) override;
  /// Publishes the ranking of the restored group: routing may be waiting for it.
  Status start(std::uint64_t group, Outbox& out) override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  std::string report() const override;

 private:
  Fragility fragility_;
  RegretLedger ledger_;
};

}  // namespace kpool
