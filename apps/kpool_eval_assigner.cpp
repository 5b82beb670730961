#include "apps/kpool_eval_assigner.hpp"

#include <algorithm>
#include <cmath>

#include "apps/kpool_eval_classifiers.hpp"
#include "apps/kpool_eval_gate.hpp"

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
  std::optional<MergePair> merge_candidate() const override { return router_->merge_candidate(); }
  void set_agreement(const std::optional<MergePair>& pair) override { router_->set_agreement(pair); }
  std::optional<std::uint32_t> classify(const EncodedRecord& record, std::uint32_t) const override {
    return router_->classify(record.embedding);
  }
  std::vector<double> posterior(const EncodedRecord& record) const override {
    return router_->posterior(record.embedding);
  }

 private:
  std::unique_ptr<Router> router_;
  bool source_per_domain_;  ///< as gateways know where they stand
};

class Told : public Assigner {
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

/// An embedding as the daemon's router sees it.
std::vector<float> tamed(std::span<const float> x, double power) {
  std::vector<float> y(x.begin(), x.end());
  for (float& value : y) value = std::copysign(std::pow(std::fabs(value), static_cast<float>(power)), value);
  return y;
}

class Supervised final : public Told {
 public:
  Supervised(const RoutingOptions& options, std::unique_ptr<SlotClassifier> classifier)
      : Told(options.slots, false), power_(options.power), classifier_(std::move(classifier)) {}
  std::vector<Decision> route(Ticket ticket, const EncodedRecord& record, std::uint32_t domain) override {
    auto decisions = Told::route(ticket, record, domain);
    for (const Decision& decision : decisions) {
      if (const auto* birth = std::get_if<Birth>(&decision)) classifier_->reset(birth->slot);
      if (const auto* assignment = std::get_if<Assignment>(&decision))
        classifier_->learn(assignment->slot, tamed(record.embedding, power_));
    }
    return decisions;
  }
  std::optional<std::uint32_t> classify(const EncodedRecord& record, std::uint32_t) const override {
    return classifier_->classify(tamed(record.embedding, power_));
  }

 private:
  double power_;
  std::unique_ptr<SlotClassifier> classifier_;
};

class Gated final : public Assigner {
 public:
  Gated(const RoutingOptions& options, std::size_t width, const GateOptions& gate, LossesOfRecord losses)
      : options_(options), gate_(options.slots, width, gate), losses_(std::move(losses)) {}
  std::vector<Decision> route(Ticket ticket, const EncodedRecord& record, std::uint32_t) override {
    std::vector<Decision> decisions;
    const std::uint32_t slot = gate_.choose(tamed(record.embedding, options_.power));
    if (open_) gate_.learn(losses_(record));
    else  // every new slot is still the base, so that there is nothing to learn
      for (std::uint32_t k = 0; k < options_.slots; ++k) decisions.push_back(Birth{k, k + 1, false});
    open_ = true;
    decisions.push_back(Assignment{ticket, slot});
    return decisions;
  }
  std::optional<std::uint32_t> classify(const EncodedRecord& record, std::uint32_t) const override {
    if (!open_) return std::nullopt;
    return gate_.classify(tamed(record.embedding, options_.power));
  }
  std::vector<double> posterior(const EncodedRecord& record) const override {
    return open_ ? gate_.probabilities(tamed(record.embedding, options_.power)) : std::vector<double>{};
  }

 private:
  const RoutingOptions options_;
  SoftmaxGate gate_;
  LossesOfRecord losses_;
  bool open_ = false;
};

}  // namespace

std::unique_ptr<Assigner> make_assigner(const RunPlan& run, const StreamPlan& stream, std::size_t width,
                                        LossesOfRecord losses) {
  const RoutingOptions& routing = run.config.routing;
  const BaselineOptions& baseline = run.baseline;
  if (run.method == "kpool") return std::make_unique<Routed>(routing, width, stream.gateways == "per domain");
  if (run.method == "centroid") return std::make_unique<Supervised>(routing, make_centroids(routing.slots, width));
  if (run.method == "rls") {
    const LeastSquaresOptions options{static_cast<std::uint32_t>(baseline.rls_features), baseline.rls_ridge, run.seed};
    return std::make_unique<Supervised>(routing, make_least_squares(routing.slots, width, options));
  }
  if (run.method.starts_with("softmax")) {
    const double balance = run.method == "softmax-balanced" ? baseline.gate_balance : 0;
    const GateOptions options{baseline.gate_learning_rate, balance, baseline.gate_choice == "sampled", run.seed};
    return std::make_unique<Gated>(routing, width, options, std::move(losses));
  }
  return std::make_unique<Told>(run.method == "shared" ? 1 : routing.slots, run.method == "shared");
}

}  // namespace kpool
