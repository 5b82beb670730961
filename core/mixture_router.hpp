// The router behind make_router: mixture, gates, novel runs and the claim window.
// Owned by the routing stage, used on its thread alone.
#pragma once

#include <cmath>
#include <deque>
#include <map>

#include "core/mixture.hpp"
#include "core/novelty.hpp"
#include "core/projection.hpp"
#include "core/router.hpp"

namespace kpool {

/// A record that waits for its slot.
struct Held {
  Ticket ticket = 0;
  std::uint32_t source = 0;
  std::vector<float> x;  // (dimensions)
};

/// A distance that waits for the outcome of its run.
struct Distance {
  std::uint32_t slot = 0;
  double value = 0;
};

/// The novel run of one source: a cumulative sum of how surprising its records are beyond what a batch may be.
struct Run {
  double evidence = 0;             // 0: no run
  std::vector<Held> held;
  std::vector<Distance> released;  // by a barrier; their gates learn of them if the run comes to nothing
};

/// The window in which a new slot takes what is novel to the others from the source that opened it.
struct Claim {
  bool on = false;
  std::uint32_t slot = 0;
  std::uint32_t source = 0;
  std::uint64_t left = 0;      // records of that source
  std::uint64_t patience = 0;  // records of any source: a source that falls silent must not hold up others
};

class MixtureRouter final : public Router {
 public:
  MixtureRouter(const RoutingOptions& options, std::size_t width)
      : options_(options),
        projection_(width, options.dimensions),
        allowance_(normal_quantile(1 - options.false_alarm) / std::sqrt(options.batch_records)),
        evidence_needed_(options.novel_batches * options.batch_records / 3.0),
        mixture_(options.covariance == "diagonal" ? Covariance::diagonal : Covariance::tied, options.slots,
                 projection_.dimensions(), options.shrinkage),
        gates_(options.slots),
        pinned_(options.slots) {}

  std::vector<Decision> route(Ticket ticket, std::span<const float> x, std::uint32_t source) override;
  std::vector<Decision> barrier() override;
  void set_eviction_order(std::vector<std::uint32_t> order) override { eviction_order_ = std::move(order); }
  void pin(std::uint32_t slot, bool pinned) override { pinned_.at(slot) = pinned; }
  std::optional<MergePair> merge_candidate() const override;
  void set_agreement(const std::optional<MergePair>& pair) override { agreed_ = pair; }
  std::optional<std::uint32_t> classify(std::span<const float> x) const override;
  std::vector<double> posterior(std::span<const float> x) const override;
  std::string save() const override;
  Status restore(std::string_view bytes) override;

 private:
  std::vector<float> transformed(std::span<const float> x) const;
  void judge(Held record);
  void judge_while_claimed(Held record, double surprised);
  void claim(Held record, double surprised);
  void close_run(std::uint32_t source, Run& run);
  bool claims(std::uint32_t source) const { return claim_.on && claim_.source == source; }
  void settle(std::uint32_t source, Run& run, double needed);
  std::optional<Mixture::Neighbour> nearest(const Run& run);
  void give_birth(Verdict verdict, Run* run);
  void end_claim();
  std::optional<Birth> make_room(Verdict& verdict);
  std::optional<Mixture::Pair> close_pair() const;
  std::optional<double> agreement(const Mixture::Pair& pair) const;
  bool full() const;
  std::optional<std::uint32_t> choose_slot() const;
  double surprise(const Measured& measured) const;
  double temperature() const;
  void train(Held& record, std::uint32_t slot);
  void release(std::vector<Held>& records);
  bool read_state(BlobReader& in);

  // constant
  const RoutingOptions options_;
  const Projection projection_;
  const double allowance_;        // mean surprise that a batch of a known slot exceeds with chance false_alarm
  const double evidence_needed_;  // for a birth
  // state
  Mixture mixture_;
  std::vector<NoveltyGate> gates_;  // (slots)
  std::uint64_t generation_ = 0;
  Claim claim_;
  std::map<std::uint32_t, Run> runs_;  // by source
  std::deque<Held> waiting_;           // novel to all, while another source's claim is on
  std::vector<std::uint32_t> eviction_order_;
  std::vector<bool> pinned_;           // (slots)
  std::optional<MergePair> agreed_;    // as pins, not saved: the caller says it again
  // of the call under way
  std::vector<Decision> decisions_;
  Measured measured_;
};

}  // namespace kpool
