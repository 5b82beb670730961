// Persistence: collects the parts of a group from all stages and commits them as one synced batch
// (asynchronous barrier snapshots, Carbone et al. 2015, with one writer). Owns the store and the
// groups in progress. A stage: one thread, no socket.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "actors/stage.hpp"
#include "storage/store.hpp"

namespace kpool {

using OpenStore = std::function<Result<std::unique_ptr<Store>>()>;

class Persistence : public Stage {
 public:
  explicit Persistence(OpenStore open) : open_(std::move(open)) {}
  StageId id() const override { return StageId::persistence; }
  Status open() override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  /// While the disk is full, the parts of further groups stay where they are: no more than one group lies here.
  bool accepts_records() const override { return !retry_at_; }
  std::optional<Clock::time_point> deadline() const override { return retry_at_; }
  Status on_deadline(Clock::time_point now, Outbox& out) override;
  std::string report() const override;

 private:
  struct Group {
    Values puts;
    std::set<std::string> deletes;
    std::vector<RefusedRecord> refused;
    std::set<StageId> done;  ///< stages whose barrier has come
  };
  Status on_join(const pipeline::Join& join, Outbox& out);
  Status on_late_join(StageId stage, std::uint64_t instance, Outbox& out);
  Status check_identity(const pipeline::Join& join);
  void restore(StageId stage, Outbox& out);
  Status on_barrier(const pipeline::Barrier& barrier, Outbox& out);
  /// Commits all groups that are complete, in order.
  Status commit(Outbox& out);
  void on_snapshot(const pipeline::Snapshot& snapshot, Outbox& out);
  Status on_setting(pipeline::Setting setting, Outbox& out);

  const OpenStore open_;
  std::unique_ptr<Store> store_;
  Values values_;            ///< the last commit, kept until all stages have joined
  std::uint64_t group_ = 0;  ///< of the last commit
  std::map<StageId, std::uint64_t> joined_;  ///< stage -> instance
  std::optional<Clock::time_point> started_at_;  ///< when all were given their state
  Values identities_;                        ///< as stored, or to be written with the next commit
  bool identities_changed_ = false;
  std::map<std::uint64_t, Group> groups_;    ///< in progress; at most commit.groups_in_flight + 1
  std::optional<Clock::time_point> retry_at_;  ///< the disk is full: the same commit is tried again
  std::uint64_t commits_ = 0, bytes_ = 0;
  double commit_seconds_ = 0;
  std::string trouble_;      ///< one sentence, empty: none
};

}  // namespace kpool
