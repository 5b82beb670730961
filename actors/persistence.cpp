#include "actors/persistence.hpp"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "actors/kill_point.hpp"

namespace kpool {

using namespace std::chrono_literals;

namespace {

constexpr std::array stages_of_a_group = {StageId::ingestion, StageId::encoding, StageId::routing, StageId::training,
                                          StageId::fragility};
constexpr auto full_disk_retry = 2s;
constexpr auto restore_patience = 30s;

bool belongs_to(std::string_view key, StageId stage) {
  switch (stage) {
    case StageId::ingestion: return key.starts_with("source/") || key.starts_with("refusals/");
    case StageId::routing: return key == "mixture" || key == "routing" || key.starts_with("keep/");
    case StageId::training: return key.starts_with("slot/");
    case StageId::fragility: return key == "fragility" || key == "regret";
    default: return false;
  }
}

std::string write_refusals(const std::vector<RefusedRecord>& refused) {
  nlohmann::json json = nlohmann::json::array();
  for (const RefusedRecord& record : refused)
    json.push_back({record.origin.source, record.origin.seq, static_cast<int>(record.reason)});
  return json.dump();
}

}  // namespace

Status Persistence::open() {
  auto opened = open_();
  if (!opened) return opened.error();
  store_ = *std::move(opened);
  auto loaded = store_->load();
  if (!loaded) return loaded.error();
  values_ = *std::move(loaded);
  if (const auto group = values_.find("group"); group != values_.end()) group_ = std::stoull(group->second);
  for (const auto& [key, value] : values_)
    if (key.starts_with("identity/")) identities_[key] = value;
  spdlog::info("persistence: the store holds group {}", group_);
  return Done{};
}

Status Persistence::on_message(pipeline::Message message, Outbox& out) {
  if (auto* join = std::get_if<pipeline::Join>(&message)) return on_join(*join, out);
  if (auto* barrier = std::get_if<pipeline::Barrier>(&message)) return on_barrier(*barrier, out);
  if (auto* part = std::get_if<pipeline::Part>(&message)) {
    Group& group = groups_[part->group];
    if (part->value.empty())
      group.deletes.insert(std::move(part->key));
    else
      group.puts[std::move(part->key)] = std::move(part->value);
  } else if (auto* refused = std::get_if<pipeline::Refused>(&message)) {
    auto& all = groups_[refused->group].refused;
    all.insert(all.end(), refused->records.begin(), refused->records.end());
  } else if (auto* snapshot = std::get_if<pipeline::Snapshot>(&message)) {
    on_snapshot(*snapshot, out);
  } else if (auto* setting = std::get_if<pipeline::Setting>(&message)) {
    return on_setting(*std::move(setting), out);
  }
  return Done{};
}

/// All start together: what a stage said at once to one that is about to leave would be lost.
Status Persistence::on_join(const pipeline::Join& join, Outbox& out) {
  const auto stage = stage_named(join.stage);
  if (!stage || !std::count(stages_of_a_group.begin(), stages_of_a_group.end(), *stage)) return Done{};
  if (auto same = check_identity(join); !same) return same;
  if (started_at_) return on_late_join(*stage, join.instance, out);
  joined_[*stage] = join.instance;
  if (joined_.size() < stages_of_a_group.size()) return Done{};
  for (StageId each : stages_of_a_group) restore(each, out);
  values_.clear();
  started_at_ = Clock::now();
  return Done{};
}

/// A stage asks although its state was sent: its question was on its way already, or the answer or the stage was lost.
Status Persistence::on_late_join(StageId stage, std::uint64_t instance, Outbox& out) {
  const bool same = joined_.at(stage) == instance;
  if (same && Clock::now() - *started_at_ < restore_patience) return Done{};
  const std::string why = std::string(name(stage)) + (same ? " has not got its state" : " was started again");
  for (StageId each : stages_of_a_group) out.send(each, pipeline::Reset{why});
  return Error{Fault::again, why + ", so the pipeline starts anew from group " + std::to_string(group_)};
}

Status Persistence::check_identity(const pipeline::Join& join) {
  if (join.identity.empty()) return Done{};
  std::string& stored = identities_["identity/" + join.stage];
  if (stored.empty()) {
    stored = join.identity;
    identities_changed_ = true;
  }
  if (stored == join.identity) return Done{};
  return Error{Fault::mismatch, "the stored pool was made with " + stored + ", but " + join.stage + " now has " +
                                    join.identity +
                                    ": use the former model, settings and version, or another store.path"};
}

void Persistence::restore(StageId stage, Outbox& out) {
  std::uint64_t count = 0;
  for (const auto& [key, value] : values_) {
    if (!belongs_to(key, stage)) continue;
    out.send(stage, pipeline::Restore{key, value});
    ++count;
  }
  out.send(stage, pipeline::Restored{group_, count});
}

Status Persistence::on_barrier(const pipeline::Barrier& barrier, Outbox& out) {
  const auto stage = stage_named(barrier.stage);
  KPOOL_ASSERT(stage && barrier.group > group_);
  groups_[barrier.group].done.insert(*stage);
  return retry_at_ ? Status(Done{}) : commit(out);
}

Status Persistence::commit(Outbox& out) {
  while (!groups_.empty() && groups_.begin()->second.done.size() == stages_of_a_group.size()) {
    auto& [number, group] = *groups_.begin();
    KPOOL_ASSERT(number == group_ + 1);
    group.puts["group"] = std::to_string(number);
    if (!group.refused.empty()) group.puts["refusals/" + std::to_string(number)] = write_refusals(group.refused);
    if (identities_changed_) group.puts.insert(identities_.begin(), identities_.end());
    kill_point("commit.before");
    const auto begin = Clock::now();
    std::uint64_t bytes = 0;
    for (const auto& [key, value] : group.puts) bytes += value.size();
    auto committed = store_->commit(std::move(group.puts), {group.deletes.begin(), group.deletes.end()});
    if (!committed && committed.error().fault == Fault::no_space) {
      if (trouble_.empty()) spdlog::error("persistence: {}; tried again every 2 s", committed.error().message);
      trouble_ = committed.error().message;
      retry_at_ = Clock::now() + full_disk_retry;
      return Done{};
    }
    if (!committed) return committed;
    kill_point("commit.after");
    if (!trouble_.empty()) spdlog::info("persistence: commits go on");
    trouble_.clear();
    commit_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
    bytes_ += bytes;
    ++commits_;
    group_ = number;
    identities_changed_ = false;
    out.send(StageId::ingestion, pipeline::Durable{number, std::move(group.refused)});
    groups_.erase(groups_.begin());
  }
  return Done{};
}

Status Persistence::on_deadline(Clock::time_point, Outbox& out) {
  retry_at_.reset();
  return commit(out);
}

void Persistence::on_snapshot(const pipeline::Snapshot& snapshot, Outbox& out) {
  const auto done = store_->snapshot(snapshot.directory);
  out.send(StageId::serving, pipeline::Answer{snapshot.id, done ? "" : done.error().message});
}

/// A batch of its own: an operator need not wait for records to come. Without room it fails, and may be asked again.
Status Persistence::on_setting(pipeline::Setting setting, Outbox& out) {
  const auto written = setting.value.empty() ? store_->commit(Values{}, {setting.key})
                                             : store_->commit({{setting.key, setting.value}}, {});
  if (!written && written.error().fault != Fault::no_space) return written;
  out.send(StageId::serving, pipeline::Answer{setting.id, written ? "" : written.error().message});
  return Done{};
}

std::string Persistence::report() const {
  return nlohmann::json{{"group", group_}, {"commits", commits_}, {"bytes", bytes_},
                        {"commit_seconds", commit_seconds_}, {"groups_open", groups_.size()},
                        {"stages_joined", joined_.size()}, {"trouble", trouble_}}.dump();
}

}  // namespace kpool
