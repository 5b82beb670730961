#include "apps/kpool_eval_run.hpp"

#include <algorithm>
#include <chrono>

#include "actors/models.hpp"
#include "apps/kpool_eval_assigner.hpp"
#include "apps/kpool_eval_calibration.hpp"
#include "apps/kpool_eval_losses.hpp"
#include "core/fragility.hpp"
#include "core/ledger.hpp"

namespace kpool {
namespace {

using nlohmann::ordered_json;

/// [[generation, records], ...]
ordered_json table_of(const std::map<std::uint64_t, std::uint64_t>& counts) {
  ordered_json table = ordered_json::array();
  for (const auto& [generation, count] : counts) table.push_back({generation, count});
  return table;
}

LearnerOptions learner_options_of(const RunPlan& run) {
  LearnerOptions options = learner_options(run.config);
  if (run.baseline.optimiser == "adamw") options.optimiser = Optimiser::adamw;
  return options;
}

class Run {
 public:
  Run(const RunPlan& run, const StreamPlan& stream, const Materials& materials)
      : plan_(run),
        domains_(*materials.domains),
        assigner_(make_assigner(run, stream, materials.embedding_width,
                                [this](const EncodedRecord& record) {
                                  return losses_.under_each(record, plan_.config.routing.slots, *learner_);
                                })),
        learner_(stream.learn ? make_learner(learner_options_of(run), materials.base) : nullptr),
        losses_(domains_, make_scorer({.threads = run.config.train.threads}, materials.base)),
        fragility_(run.config.eviction),
        ledger_(run.config.eviction.slots),
        versions_(run.config.routing.slots),
        assigned_(domains_.size()),
        prequential_(domains_.size()),
        unseen_(stream.sources == "unseen") {}

  void learn(const StreamSegment& segment);
  /// Adds a line to each table of the row.
  Status measure(ordered_json& row);
  void finish(ordered_json& row) const;

 private:
  void learn(const Item& item);
  void barrier();
  void carry_out(const std::vector<Decision>& decisions);
  void open(const Birth& birth);
  void take_over(const SlotVersion& from, SlotVersion& into);
  void assign(const Assignment& assignment);
  void tell(const std::vector<StepReport>& reports);
  Answer own_slot(std::uint32_t domain) const;
  Status measure_losses(ordered_json& row, const std::vector<std::vector<Answer>>& answers);

  const RunPlan& plan_;
  const std::vector<Domain>& domains_;
  std::unique_ptr<Assigner> assigner_;
  std::unique_ptr<Learner> learner_;  ///< null: routing alone
  SlotLosses losses_;
  Fragility fragility_;
  RegretLedger ledger_;
  std::vector<SlotVersion> versions_;                               ///< by slot
  std::vector<std::map<std::uint64_t, std::uint64_t>> assigned_;    ///< by domain: generation -> records
  std::vector<Item> items_;                                         ///< by ticket
  std::vector<std::pair<double, double>> prequential_;              ///< by domain: nats, tokens
  const bool unseen_;                                               ///< held-out records: of other sources only
  std::map<std::uint32_t, std::uint32_t> learned_source_;           ///< by domain
  std::map<std::uint32_t, std::pair<double, std::optional<double>>> rates_;  ///< slot -> last rate, predicted cliff
  std::map<std::uint32_t, std::uint32_t> learning_;                 ///< slot -> domain of its latest record
  ordered_json births_ = ordered_json::array();
  std::uint64_t bytes_open_ = 0, tokens_ = 0, steps_ = 0, refused_ = 0;
};

void Run::learn(const StreamSegment& segment) {
  for (const Item& item : segment.items) learn(item);
  barrier();
}

/// Groups end as in the daemon: by the bytes of their text (here four for each token).
void Run::learn(const Item& item) {
  const EncodedRecord& record = domains_[item.domain].training[item.record];
  items_.push_back(item);
  learned_source_[item.domain] = record.origin.source;
  carry_out(assigner_->route(items_.size() - 1, record, item.domain));
  bytes_open_ += 4 * record.tokens.size();
  tokens_ += record.tokens.size();
  if (bytes_open_ >= plan_.config.commit.bytes) barrier();
}

void Run::barrier() {
  carry_out(assigner_->barrier());
  if (learner_) {
    tell(learner_->flush());
    auto pair = assigner_->merge_candidate();
    if (pair) pair->agreement = learner_->agreement(pair->lesser, pair->greater);
    assigner_->set_agreement(pair);
  }
  std::vector<std::uint32_t> order;
  for (const SlotScore& score : fragility_.ranking()) order.push_back(score.slot);
  assigner_->set_eviction_order(std::move(order));
  bytes_open_ = 0;
}

void Run::carry_out(const std::vector<Decision>& decisions) {
  for (const Decision& decision : decisions) {
    if (const auto* birth = std::get_if<Birth>(&decision)) open(*birth);
    if (const auto* assignment = std::get_if<Assignment>(&decision)) assign(*assignment);
  }
}

void Run::open(const Birth& birth) {
  if (learner_) {
    tell(learner_->flush());
    learner_->open(birth);
  }
  fragility_.on_birth(birth);
  ledger_.on_birth(birth);
  if (birth.merged_into) take_over(versions_[birth.slot], versions_[*birth.merged_into]);
  versions_[birth.slot] = {birth.generation, 0};
  births_.push_back({{"record", items_.size()}, {"domain", items_.back().domain}, {"slot", birth.slot},
                     {"generation", birth.generation}, {"evicts", birth.evicts}});
  if (birth.merged_into) births_.back()["merges_into"] = versions_[*birth.merged_into].generation;
}

/// What trained the one has trained the other from now on.
void Run::take_over(const SlotVersion& from, SlotVersion& into) {
  into.steps += from.steps + 1;  // the adapter is another one, even where `from` had no step
  for (auto& counts : assigned_)
    if (const auto found = counts.find(from.generation); found != counts.end()) {
      counts[into.generation] += found->second;
      counts.erase(found);
    }
}

void Run::assign(const Assignment& assignment) {
  const Item& item = items_[assignment.ticket];
  const EncodedRecord& record = domains_[item.domain].training[item.record];
  ++assigned_[item.domain][versions_[assignment.slot].generation];
  learning_[assignment.slot] = item.domain;
  if (learner_) tell(learner_->learn(assignment.slot, {record.origin, record.prompt_tokens, record.tokens}));
}

/// A step's loss is booked to the domain of the record that filled it.
void Run::tell(const std::vector<StepReport>& reports) {
  for (const StepReport& report : reports) {
    refused_ += report.refused.size();
    if (!report.refused.empty()) continue;
    rates_[report.slot].first = report.rate;
    if (report.cliff) rates_[report.slot].second = *report.cliff;
    fragility_.on_step(report);
    ledger_.on_step(report);
    ++steps_;
    ++versions_[report.slot].steps;
    if (report.warm) {
      births_.back()["copies"] = versions_[report.warm->slot].generation;
      births_.back()["share"] = report.warm->share;
      births_.back()["gain"] = report.warm->gain;
    }
    auto& [nats, tokens] = prequential_[learning_[report.slot]];
    nats += report.loss * report.tokens;
    tokens += report.tokens;
  }
}

/// Of the slots that live, the one that most of the domain's records trained.
Answer Run::own_slot(std::uint32_t domain) const {
  Answer own;
  std::uint64_t most = 0;
  for (std::uint32_t k = 0; k < versions_.size(); ++k) {
    const auto found = assigned_[domain].find(versions_[k].generation);
    if (versions_[k].generation == 0 || found == assigned_[domain].end() || found->second <= most) continue;
    own = k;
    most = found->second;
  }
  return own;
}

Status Run::measure(ordered_json& row) {
  ordered_json queries, owners;
  std::vector<std::vector<Answer>> answers(domains_.size());
  Calibration calibration;
  for (std::uint32_t d = 0; d < domains_.size(); ++d) {
    std::map<std::uint64_t, std::uint64_t> counts;  // generation, 0 the base -> held-out records
    const Answer slot = own_slot(d);
    for (const EncodedRecord& record : domains_[d].held_out) {
      if (unseen_ && record.origin.source == learned_source_[d]) continue;
      if (slot) calibration.add(assigner_->posterior(record), *slot);
      answers[d].push_back(assigner_->classify(record, d));
      ++counts[answers[d].back() ? versions_[*answers[d].back()].generation : 0];
    }
    owners.push_back(slot ? versions_[*slot].generation : 0);
    queries.push_back(table_of(counts));
  }
  row["owners"].push_back(std::move(owners));
  row["queries"].push_back(std::move(queries));
  row["calibration"].push_back(calibration.table());
  return learner_ ? measure_losses(row, answers) : Done{};
}

Status Run::measure_losses(ordered_json& row, const std::vector<std::vector<Answer>>& answers) {
  ordered_json routed, own;
  for (std::uint32_t d = 0; d < domains_.size(); ++d) {
    const auto loss = losses_.loss(d, answers[d], *learner_, versions_);
    if (!loss) return loss.error();
    const auto under_own = losses_.loss_under(d, own_slot(d), *learner_, versions_);
    if (!under_own) return under_own.error();
    routed.push_back(*loss);
    own.push_back(*under_own);
  }
  row["losses"].push_back(std::move(routed));
  row["own_losses"].push_back(std::move(own));
  return Done{};
}

void Run::finish(ordered_json& row) const {
  ordered_json assigned, prequential;
  for (const auto& counts : assigned_) assigned.push_back(table_of(counts));
  for (const auto& [nats, tokens] : prequential_)
    prequential.push_back(tokens > 0 ? ordered_json(nats / tokens) : ordered_json());
  ordered_json slots;
  for (const SlotScore& score : fragility_.ranking())
    slots.push_back({{"slot", score.slot}, {"generation", score.generation}, {"steps", score.steps},
                     {"gain", score.gain}, {"sharpness", score.sharpness}, {"fragility", score.fragility},
                     {"value", score.value}});
  for (ordered_json& slot : slots)
    if (const auto found = rates_.find(slot["slot"].get<std::uint32_t>()); found != rates_.end()) {
      slot["learning_rate"] = found->second.first;
      if (found->second.second) slot["predicted_cliff"] = *found->second.second;
    }
  row["assigned"] = std::move(assigned);
  row["prequential"] = std::move(prequential);
  const Regret regret = ledger_.of_pool();
  row["ledger"] = {{"routing", regret.routing}, {"interference", regret.interference}, {"eviction", regret.eviction}};
  row["births"] = births_;
  row["slots"] = std::move(slots);
  row["records"] = items_.size();
  row["tokens"] = tokens_;
  row["steps"] = steps_;
  row["refused"] = refused_;
}

}  // namespace

Result<ordered_json> carry_out(const RunPlan& plan, const StreamPlan& stream, const Materials& materials) {
  const auto begin = std::chrono::steady_clock::now();
  auto segments = make_stream(stream, *materials.domains, plan.seed);
  if (!segments) return segments.error();
  Run run(plan, stream, materials);
  ordered_json row{{"run", plan.name()}, {"method", plan.method}, {"seed", plan.seed}};
  for (const auto& [key, value] : plan.cell) row["cell"][key] = value;
  for (const Domain& domain : *materials.domains) row["domains"].push_back(domain.name);
  // The first line of each table: the base, before anything was learned.
  row["segments"].push_back(-1);
  if (auto measured = run.measure(row); !measured) return measured.error();
  for (const StreamSegment& segment : *segments) {
    run.learn(segment);
    row["segments"].push_back(segment.domain);
    if (auto measured = run.measure(row); !measured) return measured.error();
  }
  run.finish(row);
  row["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return row;
}

}  // namespace kpool
