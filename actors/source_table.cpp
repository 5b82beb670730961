#include "actors/source_table.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace kpool {

namespace {
constexpr auto silent_after = std::chrono::seconds(60);
}

std::optional<SourceTable::Index> SourceTable::find(const std::string& key) const {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  return found->second;
}

Source* SourceTable::find(Index index) {
  const auto found = sources_.find(index);
  return found == sources_.end() ? nullptr : &found->second;
}

Source& SourceTable::at(Index index) {
  Source* source = find(index);
  KPOOL_ASSERT(source);
  return *source;
}

SourceTable::Index SourceTable::open(const std::string& key, std::uint64_t epoch) {
  if (const auto old = find(key)) {
    if (at(*old).stored) dropped_.push_back(*old);
    sources_.erase(*old);
  }
  const Index index = next_++;
  Source& source = sources_[index];
  source.key = key;
  source.epoch = epoch;
  source.changed = true;
  by_key_[key] = index;
  return index;
}

Status SourceTable::restore(Index index, const std::string& value) {
  const auto json = nlohmann::json::parse(value, nullptr, false);
  if (!json.is_object() || !json.contains("key") || !json.contains("epoch") || !json.contains("watermark"))
    return Error{Fault::bad_input, "the stored state of source " + std::to_string(index) + " is not readable"};
  Source& source = sources_[index];
  source.key = json["key"].get<std::string>();
  source.epoch = json["epoch"].get<std::uint64_t>();
  source.watermark = source.received = source.released = json["watermark"].get<std::uint64_t>();
  source.stored = true;
  by_key_[source.key] = index;
  next_ = std::max(next_, index + 1);
  return Done{};
}

std::string SourceTable::save(const Source& source) {
  return nlohmann::json{{"key", source.key}, {"epoch", source.epoch}, {"watermark", source.released}}.dump();
}

std::vector<SourceTable::Index> SourceTable::take_dropped() { return std::exchange(dropped_, {}); }

bool SourceTable::is_active(const Source& source, Clock::time_point now) {
  return source.bytes_open > 0 || (!source.route.empty() && now - source.seen < silent_after);
}

std::size_t SourceTable::active(Clock::time_point now) const {
  return std::count_if(sources_.begin(), sources_.end(),
                       [now](const auto& entry) { return is_active(entry.second, now); });
}

void SourceTable::add_refusals(std::uint64_t group, const std::vector<RefusedRecord>& refused) {
  if (refused.empty()) return;
  RefusalGroup entry{group, {}};
  for (const RefusedRecord& record : refused) {
    entry.origins.push_back(record.origin);
    if (Source* source = find(record.origin.source)) source->refused[record.origin.seq] = record.reason;
  }
  refusals_ += entry.origins.size();
  refusal_groups_.push_back(std::move(entry));
  while (refusals_ > refusals_max && refusal_groups_.size() > 1) forget_oldest_group();
}

void SourceTable::forget_oldest_group() {
  for (const Origin& origin : refusal_groups_.front().origins)
    if (Source* source = find(origin.source)) source->refused.erase(origin.seq);
  refusals_ -= refusal_groups_.front().origins.size();
  settled_.push_back(refusal_groups_.front().group);
  refusal_groups_.pop_front();
}

void SourceTable::forget_refusals(Index index, std::uint64_t up_to) {
  auto& refused = at(index).refused;
  refused.erase(refused.begin(), refused.upper_bound(up_to));
}

std::vector<std::uint64_t> SourceTable::take_settled_groups() {
  const auto needed = [this](const Origin& origin) {
    const Source* source = find(origin.source);
    return source && source->refused.contains(origin.seq);
  };
  while (!refusal_groups_.empty() &&
         std::none_of(refusal_groups_.front().origins.begin(), refusal_groups_.front().origins.end(), needed))
    forget_oldest_group();
  return std::exchange(settled_, {});
}

}  // namespace kpool
