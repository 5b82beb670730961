// The router behind make_router: mixture, gates, novel runs and the claim window.
// Owned by the routing stage, used on its thread alone.
#pragma once

#include <deque>
#include <map>

#include "core/mixture.hpp"
#include "core/novelty.hpp"
#include "core/router.hpp"

namespace kpool {

/// A record that waits for its slot.
struct Held {
  Ticket ticket = 0;
  std::uint32_t source = 0;
  std::vector<float> x;  // (width)
};

/// A distance that waits for the verdict on its batch.
struct Distance {
  std::uint32_t slot = 0;
  double value = 0;
};

/// The novel run of one source.
struct Run {
  std::uint32_t in_batch = 0;        // records of the batch under way
  std::uint32_t novel_in_batch = 0;
  std::uint32_t novel_batches = 0;   // whole ones, in a row
  std::size_t batch_begin = 0;       // in held
  std::vector<Held> held;
  std::vector<Distance> released;    // by a barrier, from the batch under way

  bool idle() const { return in_batch == 0 && novel_batches == 0 && held.empty(); }
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
        width_(width),
        z_(normal_quantile(1 - options.false_alarm)),
        z_claim_(normal_quantile(1 - options.false_alarm / 100)),
        mixture_(options.covariance == "diagonal" ? Covariance::diagonal : Covariance::tied, options.slots, width,
                 options.shrinkage),
        gates_(options.slots) {}

  std::vector<Decision> route(Ticket ticket, std::span<const float> x, std::uint32_t source) override;
  std::vector<Decision> barrier() override;
  void set_eviction_order(std::vector<std::uint32_t> order) override { eviction_order_ = std::move(order); }
  std::optional<std::uint32_t> classify(std::span<const float> x) const override;
  std::string save() const override;
  Status restore(std::string_view bytes) override;

 private:
  std::vector<float> transformed(std::span<const float> x) const;
  bool mostly_novel(const Run& run) const { return run.novel_in_batch >= options_.novel_share * run.in_batch; }
  void judge(Held record);
  void judge_while_claimed(Held record);
  void close_batch(std::uint32_t source, Run& run);
  void give_birth(std::uint32_t source, Run* run);
  void end_claim();
  std::uint32_t choose_slot() const;
  bool is_novel(const Measured& measured, double z) const;
  void train(Held& record, std::uint32_t slot);
  void release(std::vector<Held>& records);
  bool read_state(BlobReader& in);

  // constant
  const RoutingOptions options_;
  const std::size_t width_;
  const double z_;        // normal quantile of 1 - false_alarm
  const double z_claim_;  // and of 1 - false_alarm / 100
  // state
  Mixture mixture_;
  std::vector<NoveltyGate> gates_;  // (slots)
  std::uint64_t generation_ = 0;
  Claim claim_;
  std::map<std::uint32_t, Run> runs_;  // by source; idle ones are dropped
  std::deque<Held> waiting_;           // novel to all, while another source's claim is on
  std::vector<std::uint32_t> eviction_order_;
  // of the call under way
  std::vector<Decision> decisions_;
  Measured measured_;
};

}  // namespace kpool
