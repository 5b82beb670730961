// Training: the K LoRA slots. Owns the learner and the samples in hand. A stage: one thread, no socket.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <variant>

#include "actors/flight_journal.hpp"
#include "actors/stage.hpp"
#include "core/learner.hpp"

namespace kpool {

using MakeLearner = std::function<Result<std::unique_ptr<Learner>>()>;

class Training : public Stage {
 public:
  Training(MakeLearner make, std::string identity, JournalPlace journal = {})
      : make_(std::move(make)), identity_(std::move(identity)), journal_place_(std::move(journal)) {}
  StageId id() const override { return StageId::training; }
  Status open() override;
  std::string identity() const override { return identity_; }
  Status restore(const std::string& key, std::string value) override;
  Status start(std::uint64_t group, Outbox& out) override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  bool has_work() const override { return !queue_.empty(); }
  /// One sample, birth, barrier or slot to save: at most a few steps.
  Status work(Outbox& out) override;
  std::string report() const override;

 private:
  struct Routed { std::uint32_t slot; Sample sample; };
  struct Save { std::uint64_t group; std::uint32_t slot; };  ///< one at a time, so that few lie serialised in memory
  struct Saved { pipeline::Barrier barrier; };               ///< all that changed in the group
  using Item = std::variant<Routed, Birth, pipeline::Barrier, Save, Saved>;
  void learn(Routed routed, Outbox& out);
  void flush(Outbox& out);
  void tell(std::vector<StepReport> reports, Outbox& out);
  void watch(const StepReport& report);
  void barrier(pipeline::Barrier barrier, Outbox& out);
  void close(pipeline::Barrier barrier, Outbox& out);

  const MakeLearner make_;
  const std::string identity_;
  const JournalPlace journal_place_;
  std::unique_ptr<FlightJournal> journal_;
  std::unique_ptr<Learner> learner_;
  std::deque<Item> queue_;  ///< what one frame held: none is read before it is empty
  std::uint64_t group_ = 0;  ///< of the last barrier
  struct Rate { double rate = 0; std::optional<double> cliff; };
  std::map<std::uint32_t, Rate> rates_;  ///< by slot, as of its last step in this life
  std::uint64_t steps_ = 0, tokens_ = 0, rolled_back_ = 0;
  double busy_seconds_ = 0;
};

}  // namespace kpool
