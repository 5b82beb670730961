#include "actors/fragility_stage.hpp"

#include <nlohmann/json.hpp>

namespace kpool {

Status FragilityStage::restore(const std::string& key, std::string value) {
  if (key == "regret") return ledger_.restore(value);
  if (key != "fragility") return Stage::restore(key, std::move(value));
  return fragility_.restore(value);
}

Status FragilityStage::start(std::uint64_t group, Outbox& out) {
  out.send(StageId::routing, pipeline::Ranking{group, fragility_.ranking(), fragility_.agreement()});
  return Done{};
}

Status FragilityStage::on_message(pipeline::Message message, Outbox& out) {
  if (auto* birth = std::get_if<Birth>(&message)) {
    fragility_.on_birth(*birth);
    ledger_.on_birth(*birth);
  } else if (auto* trained = std::get_if<pipeline::Trained>(&message)) {
    fragility_.on_step(trained->report);
    ledger_.on_step(trained->report);
  } else if (auto* barrier = std::get_if<pipeline::Barrier>(&message)) {
    fragility_.set_agreement(barrier->merge);
    out.send(StageId::persistence, pipeline::Part{barrier->group, "fragility", fragility_.save()});
    out.send(StageId::persistence, pipeline::Part{barrier->group, "regret", ledger_.save()});
    out.send(StageId::persistence, pipeline::Barrier{barrier->group, name(id())});
    out.send(StageId::routing, pipeline::Ranking{barrier->group, fragility_.ranking(), fragility_.agreement()});
  }
  return Done{};
}

std::string FragilityStage::report() const {
  nlohmann::json slots = nlohmann::json::array();
  for (const SlotScore& score : fragility_.ranking()) {
    const Regret regret = ledger_.of_slot(score.slot);
    slots.push_back({{"slot", score.slot}, {"generation", score.generation}, {"steps", score.steps},
                     {"tokens", score.tokens}, {"loss", score.loss}, {"gain", score.gain},
                     {"sharpness", score.sharpness}, {"fragility", score.fragility}, {"value", score.value},
                     {"reason", score.reason}, {"regret_routing", regret.routing},
                     {"regret_interference", regret.interference}});
  }
  const Regret pool = ledger_.of_pool();
  const nlohmann::json regret{
      {"routing", pool.routing}, {"interference", pool.interference}, {"eviction", pool.eviction}};
  return nlohmann::json{{"slots", slots}, {"regret", regret}}.dump();
}

}  // namespace kpool
