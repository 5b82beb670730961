// Fragility: scores of every slot and the ranking that routing evicts by. Owns the statistics.
// A stage: one thread, no socket.
#pragma once

#include "actors/stage.hpp"
#include "core/fragility.hpp"

namespace kpool {

class FragilityStage : public Stage {
 public:
  explicit FragilityStage(FragilityOptions options) : fragility_(std::move(options)) {}
  StageId id() const override { return StageId::fragility; }
  Status restore(const std::string& key, std::string value) override;
  /// Publishes the ranking of the restored group: routing may be waiting for it.
  Status start(std::uint64_t group, Outbox& out) override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  std::string report() const override;

 private:
  Fragility fragility_;
};

}  // namespace kpool
