// Who says which slot a record trains and answers with: the daemon's router or a baseline.
// Owned by one run, used on its thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "apps/kpool_eval_plan.hpp"
#include "core/record.hpp"
#include "core/router.hpp"

namespace kpool {

class Assigner {
 public:
  virtual ~Assigner() = default;
  /// domain: for baselines that are told it; the router never looks.
  virtual std::vector<Decision> route(Ticket ticket, const EncodedRecord& record, std::uint32_t domain) = 0;
  virtual std::vector<Decision> barrier() { return {}; }
  virtual void set_eviction_order(std::vector<std::uint32_t>) {}
  virtual std::optional<MergePair> merge_candidate() const { return std::nullopt; }
  virtual void set_agreement(const std::optional<MergePair>&) {}
  /// The slot that answers a query; nothing: the base alone.
  virtual std::optional<std::uint32_t> classify(const EncodedRecord& record, std::uint32_t domain) const = 0;
  /// (slots) how likely each is to be the record's; empty where the method does not say.
  virtual std::vector<double> posterior(const EncodedRecord&) const { return {}; }
};

/// The losses of a record under every slot before it is learned, nats per token.
using LossesOfRecord = std::function<std::vector<double>(const EncodedRecord&)>;

/// kpool: the router as configured. task-id: a slot per domain, told which; a domain without a slot takes a free one or
/// that of the first in the eviction order. shared: one slot for all. centroid, rls: training as task-id; queries go to
/// the slot that a classifier says, which was taught with the same labels. softmax, softmax-balanced: a gate that the
/// losses train, told nothing; all slots are open from the first record on, none is evicted.
std::unique_ptr<Assigner> make_assigner(const RunPlan& run, const StreamPlan& stream, std::size_t width,
                                        LossesOfRecord losses);

}  // namespace kpool
