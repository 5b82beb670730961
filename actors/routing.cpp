#include "actors/routing.hpp"

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

namespace kpool {

namespace {
// One frame to the trainer.
constexpr std::size_t frame_samples_max = 256;

/// Whether two slots become one to make room, and why.
std::string merging(const Verdict::Merge& merge) {
  std::string agreement = ", how well they agree is not known yet";
  if (merge.needed <= 0) agreement.clear();
  else if (merge.agreement) agreement = fmt::format(", agreement {:.3f} of {:.3f}", *merge.agreement, merge.needed);
  return fmt::format("; to make room two slots {}become one: {:.2f} apart{}", merge.accepted() ? "" : "do not ",
                     merge.distance, agreement);
}
}  // namespace

Routing::Routing(std::unique_ptr<Router> router, RoutingStageOptions options, std::string identity)
    : router_(std::move(router)),
      options_(options),
      identity_(std::move(identity)),
      counts_(options.slots),
      kept_(options.slots) {}

Status Routing::restore(const std::string& key, std::string value) {
  if (key == "mixture") return router_->restore(value);
  for (std::size_t k = 0; k < kept_.size(); ++k)
    if (key == "keep/" + std::to_string(k)) {
      keep(k, {value.starts_with("pinned"), value.ends_with("held")});
      return Done{};
    }
  if (key != "routing") return Stage::restore(key, std::move(value));
  const auto json = nlohmann::json::parse(value, nullptr, false);
  if (!json.is_object() || !json.contains("slots") || json["slots"].size() != counts_.size())
    return Error{Fault::bad_input, "the stored value 'routing' is not readable or of another number of slots"};
  for (std::size_t k = 0; k < counts_.size(); ++k)
    counts_[k] = {json["slots"][k].at(0).get<std::uint64_t>(), json["slots"][k].at(1).get<std::uint64_t>()};
  births_ = json.value("births", std::uint64_t{0});
  evictions_ = json.value("evictions", std::uint64_t{0});
  merges_ = json.value("merges", std::uint64_t{0});
  joins_ = json.value("joins", std::uint64_t{0});
  without_room_ = json.value("without_room", std::uint64_t{0});
  return Done{};
}

Status Routing::start(std::uint64_t group, Outbox&) {
  group_ = group;
  if (group == 0) ranked_group_ = 0;
  return Done{};
}

Status Routing::on_message(pipeline::Message message, Outbox& out) {
  if (auto* records = std::get_if<pipeline::EncodedRecords>(&message)) {
    for (EncodedRecord& record : records->records) {
      const Ticket ticket = next_ticket_++;
      held_.emplace(ticket, Sample{record.origin, record.prompt_tokens, std::move(record.tokens),
                                     std::move(record.hidden)});
      carry_out(router_->route(ticket, record.embedding, record.origin.source), out);
    }
    send_routed(out);
  } else if (auto* arrived = std::get_if<pipeline::Barrier>(&message)) {
    barrier(arrived->group, out);
  } else if (auto* ranking = std::get_if<pipeline::Ranking>(&message)) {
    std::vector<std::uint32_t> order;
    for (const SlotScore& score : ranking->slots) order.push_back(score.slot);
    ranking_ = std::move(ranking->slots);
    router_->set_agreement(ranking->merge);
    router_->set_eviction_order(std::move(order));
    ranked_group_ = ranking->group;
  } else if (auto* wish = std::get_if<pipeline::Change>(&message)) {
    change(*wish, out);
  }
  return Done{};
}

void Routing::carry_out(std::vector<Decision> decisions, Outbox& out) {
  for (const Decision& decision : decisions) {
    if (const auto* birth = std::get_if<Birth>(&decision)) {
      open(*birth, out);
    } else if (const auto* assignment = std::get_if<Assignment>(&decision)) {
      assign(*assignment, out);
    } else {
      explain(std::get<Verdict>(decision));
    }
  }
}

/// Every decision about a novel run is logged with what it rests on. Ends of runs that came to nothing are daily
/// business: debug.
void Routing::explain(const Verdict& verdict) {
  using enum Verdict::Outcome;
  if (verdict.outcome == nothing && !spdlog::should_log(spdlog::level::debug)) return;
  const std::string records = std::to_string(verdict.records) + " novel records of source " +
                              std::to_string(verdict.source);
  if (verdict.outcome == nothing) return spdlog::debug("routing: {} were ordinary after all", records);
  if (verdict.records == 0) return;  // the first slot
  std::string why = fmt::format("evidence {:.1f} of {:.1f}", verdict.evidence, verdict.needed);
  if (verdict.nearest)
    why += fmt::format(", {:.2f} from slot {} where {:.2f} would join it", verdict.distance, *verdict.nearest,
                       verdict.limit);
  if (verdict.merge) why += merging(*verdict.merge);
  if (verdict.outcome == joins) {
    ++joins_;
    spdlog::info("routing: {} are another source of the domain of slot {}: {}", records, *verdict.nearest, why);
  } else if (verdict.outcome == opens) {
    spdlog::info("routing: {} are a new domain: {}", records, why);
  } else {
    ++without_room_;
    if (!std::exchange(said_without_room_, true))
      spdlog::warn("routing: no slot may be evicted, so a new domain trains the slots that it is closest to: {}, {}",
                   records, why);
  }
}

void Routing::open(const Birth& birth, Outbox& out) {
  send_routed(out);
  ++births_;
  evictions_ += birth.evicts;
  const std::string before =
      birth.merged_into ? "; what it held goes over to slot " + std::to_string(*birth.merged_into) + ", its closest"
      : birth.evicts    ? "; what it held is evicted: " + evicted(birth.slot)
                        : "";
  spdlog::info("routing: slot {} is opened for a new domain (birth {}){}", birth.slot, birth.generation, before);
  if (birth.merged_into) {
    ++merges_;
    counts_.at(*birth.merged_into).records += counts_.at(birth.slot).records;
  }
  counts_.at(birth.slot) = {birth.generation, 0};
  out.send(StageId::training, birth);
}

/// Why this slot.
std::string Routing::evicted(std::uint32_t slot) const {
  for (std::size_t place = 0; place < ranking_.size(); ++place)
    if (const SlotScore& score = ranking_[place];
        score.slot == slot && score.generation == counts_.at(slot).generation)
      return fmt::format("number {} of {} in the order of eviction, {} (value {:.4g}, gain {:.4f}, sharpness {:.2g}, "
                         "fragility {:.3f}, {} records)", place + 1, ranking_.size(), score.reason, score.value,
                         score.gain, score.sharpness, score.fragility, counts_.at(slot).records);
  return fmt::format("it has not been scored since it was opened or the daemon was started ({} records)",
                     counts_.at(slot).records);
}

void Routing::assign(const Assignment& assignment, Outbox& out) {
  auto held = held_.extract(assignment.ticket);
  KPOOL_ASSERT(!held.empty());
  if (kept_.at(assignment.slot).held) {
    refused_.records.push_back({held.mapped().origin, Refusal::held});
    return;
  }
  if (!routed_.samples.empty() && (routed_.slot != assignment.slot || routed_.samples.size() >= frame_samples_max))
    send_routed(out);
  routed_.slot = assignment.slot;
  routed_.samples.push_back(std::move(held.mapped()));
  ++counts_.at(assignment.slot).records;
}

void Routing::send_routed(Outbox& out) {
  if (!routed_.samples.empty()) out.send(StageId::training, std::exchange(routed_, {}));
  if (refused_.records.empty()) return;
  refused_.group = group_ + 1;
  out.send(StageId::persistence, std::exchange(refused_, {}));
}

std::string Routing::Kept::text() const {
  return pinned && held ? "pinned held" : pinned ? "pinned" : held ? "held" : "";
}

void Routing::keep(std::size_t slot, const Kept& kept) {
  kept_.at(slot) = kept;
  router_->pin(static_cast<std::uint32_t>(slot), kept.pinned || kept.held);
}

/// In force at once; persistence answers when it is durable as well.
void Routing::change(const pipeline::Change& wish, Outbox& out) {
  if (wish.slot >= kept_.size() || counts_[wish.slot].generation == 0) {
    const std::string slot = std::to_string(wish.slot);
    out.send(StageId::serving, pipeline::Answer{wish.id, "slot " + slot + " is not in use: status has those that are"});
    return;
  }
  Kept kept = kept_[wish.slot];
  if (wish.what == SlotChange::pin || wish.what == SlotChange::unpin) kept.pinned = wish.what == SlotChange::pin;
  else kept.held = wish.what == SlotChange::hold;
  keep(wish.slot, kept);
  const std::string text = kept.text();
  spdlog::info("routing: slot {} is {}", wish.slot, text.empty() ? "free to be evicted" : text);
  out.send(StageId::persistence, pipeline::Setting{wish.id, "keep/" + std::to_string(wish.slot), text});
}

void Routing::barrier(std::uint64_t group, Outbox& out) {
  carry_out(router_->barrier(), out);
  send_routed(out);
  KPOOL_ASSERT(held_.empty());
  out.send(StageId::persistence, pipeline::Part{group, "mixture", router_->save()});
  out.send(StageId::persistence, pipeline::Part{group, "routing", save_counts()});
  const pipeline::Barrier mine{group, name(id()), router_->merge_candidate()};
  out.send(StageId::persistence, mine);
  out.send(StageId::training, mine);
  group_ = group;
  said_without_room_ = false;
}

std::string Routing::save_counts() const {
  nlohmann::json slots = nlohmann::json::array();
  for (const SlotCount& count : counts_) slots.push_back({count.generation, count.records});
  return nlohmann::json{{"slots", slots}, {"births", births_}, {"evictions", evictions_}, {"merges", merges_},
                        {"joins", joins_}, {"without_room", without_room_}}.dump();
}

std::string Routing::report() const {
  nlohmann::json slots = nlohmann::json::array();
  for (std::size_t k = 0; k < counts_.size(); ++k)
    slots.push_back({{"slot", k}, {"generation", counts_[k].generation}, {"records", counts_[k].records},
                     {"kept", kept_[k].text()}});
  return nlohmann::json{{"slots", slots}, {"births", births_}, {"evictions", evictions_}, {"merges", merges_},
                        {"joins", joins_}, {"without_room", without_room_}, {"held", held_.size()}}.dump();
}

}  // namespace kpool
