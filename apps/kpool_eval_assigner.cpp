#include "apps/kpool_eval_assigner.hpp"

#include <algorithm>

namespace kpool {
namespace {

class Routed final : public Assigner {
 public:
  Routed(const RoutingOptions& options, std::size_t width, bool source_per_domain)
      : router_(make_router(options, width)), source_per_domain_(source_per_domain) {}
  std::vector<Decision> route(Ticket ticket, const EncodedRecord& record, std::uint32_t domain) override {
    return router_->route(ticket, record.embedding, source_per_domain_ ? domain : 0);
  }
  std::vector<Decision> barrier() override { return router_->barrier(); }
  void set_eviction_order(std::vector<std::uint32_t> order) override { router_->set_eviction_order(std::move(order)); }
  std::optional<std::uint32_t> classify(const EncodedRecord& record, std::uint32_t) const override {
    return router_->classify(record.embedding);
  }

 private:
  std::unique_ptr<Router> router_;
  bool source_per_domain_;  ///< as gateways know where they stand
};

class Told final : public Assigner {
 public:
  Told(std::uint32_t slots, bool shared) : domains_(slots), shared_(shared) {}
  std::vector<Decision> route(Ticket ticket, const EncodedRecord&, std::uint32_t domain) override {
    std::vector<Decision> decisions;
    auto slot = slot_of(domain);
    if (!slot) {
      slot = choose_slot();
      decisions.push_back(Birth{*slot, ++generation_, domains_[*slot].has_value()});
      domains_[*slot] = shared_ ? 0 : domain;
    }
    decisions.push_back(Assignment{ticket, *slot});
    return decisions;
  }
  void set_eviction_order(std::vector<std::uint32_t> order) override { order_ = std::move(order); }
  std::optional<std::uint32_t> classify(const EncodedRecord&, std::uint32_t domain) const override {
    return slot_of(domain);
  }

 private:
  std::optional<std::uint32_t> slot_of(std::uint32_t domain) const {
    const auto found = std::find(domains_.begin(), domains_.end(), std::optional(shared_ ? 0 : domain));
    if (found == domains_.end()) return std::nullopt;
    return static_cast<std::uint32_t>(found - domains_.begin());
  }
  std::uint32_t choose_slot() const {
    const auto free = std::find(domains_.begin(), domains_.end(), std::nullopt);
    if (free != domains_.end()) return static_cast<std::uint32_t>(free - domains_.begin());
    return order_.empty() ? 0 : order_.front();
  }
  std::vector<std::optional<std::uint32_t>> domains_;  ///< of each slot
  std::vector<std::uint32_t> order_;
  std::uint64_t generation_ = 0;
  bool shared_;
};

}  // namespace

std::unique_ptr<Assigner> make_assigner(const RunPlan& run, const StreamPlan& stream, std::size_t width) {
  if (run.method == "kpool")
    return std::make_unique<Routed>(run.config.routing, width, stream.gateways == "per domain");
  return std::make_unique<Told>(run.method == "shared" ? 1 : run.config.routing.slots, run.method == "shared");
}

}  // namespace kpool
