#include "actors/serving.hpp"

#include <nlohmann/json.hpp>

namespace kpool {

Status Serving::on_message(pipeline::Message message, Outbox&) {
  if (auto* report = std::get_if<pipeline::Report>(&message)) {
    reports_[report->stage] = std::move(report->json);
  } else if (auto* done = std::get_if<pipeline::Answer>(&message)) {
    auto route = routes_.extract(done->id);
    if (!route.empty()) send_(route.mapped(), admin::Reply{std::move(done->error)});
  }
  return Done{};
}

void Serving::on_admin(const std::string& route, Result<admin::Message> message, Outbox& out) {
  if (message && std::holds_alternative<admin::StatusRequest>(*message)) {
    send_(route, admin::StatusReport{report()});
  } else if (auto* snapshot = message ? std::get_if<admin::SnapshotRequest>(&*message) : nullptr) {
    routes_[next_] = route;
    out.send(StageId::persistence, pipeline::Snapshot{next_++, snapshot->directory});
  } else if (auto* change = message ? std::get_if<admin::ChangeRequest>(&*message) : nullptr) {
    routes_[next_] = route;
    out.send(StageId::routing, pipeline::Change{next_++, change->slot, change->what});
  } else {
    send_(route, admin::Reply{message ? "the daemon does not take this message" : message.error().message});
  }
}

std::string Serving::report() const {
  auto json = nlohmann::json::parse(about_);
  json["uptime_seconds"] = std::chrono::duration<double>(Clock::now() - started_).count();
  for (const auto& [stage, report] : reports_) json["stages"][stage] = nlohmann::json::parse(report, nullptr, false);
  return json.dump();
}

}  // namespace kpool
