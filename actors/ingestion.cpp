#include "actors/ingestion.hpp"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "actors/kill_point.hpp"

namespace kpool {

namespace {

// One frame to the encoder: small enough that a stop or a status question waits for little.
constexpr std::size_t frame_records_max = 256;
constexpr std::size_t frame_bytes_max = 64u << 10;

}  // namespace

Ingestion::Ingestion(const Config& config, GatewaySend send)
    : commit_(config.commit),
      gateway_(config.gateway),
      deterministic_(config.engine.deterministic),
      send_(std::move(send)) {}

Status Ingestion::restore(const std::string& key, std::string value) {
  const auto slash = key.find('/');
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(key.data() + std::min(slash + 1, key.size()), key.data() + key.size(), number);
  const bool is_numbered = parsed.ec == std::errc() && parsed.ptr == key.data() + key.size();
  if (is_numbered && key.starts_with("source/")) return sources_.restore(static_cast<Index>(number), value);
  if (!is_numbered || !key.starts_with("refusals/")) return Stage::restore(key, std::move(value));
  const auto json = nlohmann::json::parse(value, nullptr, false);
  if (!json.is_array()) return Error{Fault::bad_input, "the stored value '" + key + "' is not readable"};
  auto& refused = restored_refusals_[number];
  refused.clear();
  for (const auto& entry : json)
    refused.push_back({{entry.at(0).get<std::uint32_t>(), entry.at(1).get<std::uint64_t>()},
                       static_cast<Refusal>(entry.at(2).get<int>())});
  return Done{};
}

Status Ingestion::start(std::uint64_t group, Outbox&) {
  for (const auto& [number, refused] : restored_refusals_) sources_.add_refusals(number, refused);
  restored_refusals_.clear();
  group_ = group;
  started_ = true;
  return Done{};
}

Status Ingestion::on_message(pipeline::Message message, Outbox&) {
  if (auto* durable = std::get_if<pipeline::Durable>(&message)) on_durable(*durable);
  return Done{};
}

std::uint64_t Ingestion::source_credit_bytes() const { return gateway_.credit_bytes / gateway_.sources_max; }

void Ingestion::on_durable(const pipeline::Durable& durable) {
  KPOOL_ASSERT(!groups_.empty() && groups_.front().number == durable.group);
  kill_point("ack.before");
  sources_.add_refusals(durable.group, durable.refused);
  std::map<Index, std::vector<gateway::RefusedSeq>> refused;
  for (const RefusedRecord& record : durable.refused)
    refused[record.origin.source].push_back({record.origin.seq, record.reason});
  total_refused_ += durable.refused.size();
  for (const auto& [index, share] : groups_.front().sources) {
    Source* source = sources_.find(index);
    if (!source) continue;  // the gateway has begun another numbering
    durable_records_ += share.up_to - source->watermark;
    source->watermark = share.up_to;
    source->bytes_open -= share.bytes;
    if (source->flush_at && *source->flush_at <= source->watermark) source->flush_at.reset();
    acknowledge(index, std::move(refused[index]));
  }
  groups_.pop_front();
  kill_point("ack.after");
}

bool Ingestion::group_is_full() const {
  return open_bytes_ >= commit_.bytes || open_records_ >= commit_.records_max;
}

bool Ingestion::flush_is_due() const {
  if (!accepted_.empty() || open_records_ == 0) return false;
  return std::any_of(open_.sources.begin(), open_.sources.end(), [this](const auto& entry) {
    const auto found = sources_.all().find(entry.first);
    return found != sources_.all().end() && found->second.flush_at && *found->second.flush_at <= found->second.released;
  });
}

bool Ingestion::has_work() const {
  if (!started_ || groups_.size() >= commit_.groups_in_flight) return false;
  return (!accepted_.empty() && !draining_) || flush_is_due();
}

Status Ingestion::work(Outbox& out) {
  if (!accepted_.empty() && !draining_) release(out);
  if (group_is_full() || flush_is_due()) barrier(out);
  return Done{};
}

void Ingestion::release(Outbox& out) {
  pipeline::Records frame;
  pipeline::Refused refused{group_ + 1, {}};
  std::size_t bytes = 0;
  while (!accepted_.empty() && !group_is_full() && frame.records.size() < frame_records_max &&
         bytes < frame_bytes_max) {
    Accepted& next = accepted_.front();
    const Origin origin = next.record.origin;
    const std::uint64_t size = next.bytes;
    if (Source* source = sources_.find(origin.source)) {
      if (open_records_ == 0) open_since_ = Clock::now();
      source->released = origin.seq;
      source->changed = true;
      SourceShare& share = open_.sources[origin.source];
      share.up_to = origin.seq;
      share.bytes += size;
      open_bytes_ += size;
      ++open_records_;
      bytes += size;
      if (next.refusal)
        refused.records.push_back({origin, *next.refusal});
      else
        frame.records.push_back(std::move(next.record));
    }
    accepted_.pop_front();
  }
  if (!refused.records.empty()) out.send(StageId::persistence, std::move(refused));
  if (!frame.records.empty()) out.send(StageId::encoding, std::move(frame));
}

void Ingestion::barrier(Outbox& out) {
  open_.number = ++group_;
  for (Index dropped : sources_.take_dropped())
    out.send(StageId::persistence, pipeline::Part{group_, "source/" + std::to_string(dropped), ""});
  for (std::uint64_t settled : sources_.take_settled_groups())
    out.send(StageId::persistence, pipeline::Part{group_, "refusals/" + std::to_string(settled), ""});
  for (auto& [index, source] : sources_.all()) {
    if (!std::exchange(source.changed, false)) continue;
    source.stored = true;
    out.send(StageId::persistence,
             pipeline::Part{group_, "source/" + std::to_string(index), SourceTable::save(source)});
  }
  const pipeline::Barrier barrier{group_, name(id())};
  out.send(StageId::persistence, barrier);
  out.send(StageId::encoding, barrier);
  groups_.push_back(std::exchange(open_, {}));
  open_bytes_ = open_records_ = 0;
}

std::optional<Clock::time_point> Ingestion::deadline() const {
  // Deterministic mode ends groups by what is in the stream, never by the clock.
  if (deterministic_ || open_records_ == 0 || groups_.size() >= commit_.groups_in_flight) return std::nullopt;
  return open_since_ + std::chrono::milliseconds(commit_.max_wait_ms);
}

Status Ingestion::on_deadline(Clock::time_point, Outbox& out) {
  barrier(out);
  return Done{};
}

void Ingestion::drain(Outbox& out) {
  draining_ = true;
  if (open_records_ > 0 && !deterministic_) barrier(out);
}

std::string Ingestion::report() const {
  nlohmann::json sources = nlohmann::json::array();
  for (const auto& [index, source] : sources_.all())
    sources.push_back({{"source", source.key}, {"epoch", source.epoch}, {"watermark", source.watermark},
                       {"received", source.received}, {"open_bytes", source.bytes_open},
                       {"refusals_kept", source.refused.size()}, {"connected", !source.route.empty()}});
  return nlohmann::json{{"group", group_}, {"groups_in_flight", groups_.size()}, {"records_received", total_records_},
                        {"records_durable", durable_records_}, {"records_refused", total_refused_},
                        {"queued_records", accepted_.size()}, {"regressions", regressions_}, {"draining", draining_},
                        {"credit_bytes_per_source", source_credit_bytes()}, {"sources", sources}}.dump();
}

}  // namespace kpool
