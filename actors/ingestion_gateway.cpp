// The half of ingestion that talks to gateways: who may say what when (docs/protocol.md).
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "actors/ingestion.hpp"
#include "core/unicode.hpp"

namespace kpool {

using gateway::RefuseReason;

void Ingestion::on_gateway(const std::string& key, const std::string& route, Result<gateway::Message> message) {
  if (!message) return refuse(route, RefuseReason::bad_frame, message.error().message, false);
  if (!started_) return refuse(route, RefuseReason::starting, "the daemon is starting", false);
  if (auto* hello = std::get_if<gateway::Hello>(&*message)) return on_hello(key, route, *hello);
  const auto index = sources_.find(key);
  if (!index || sources_.at(*index).route != route)
    return refuse(route, RefuseReason::no_hello, "say hello first", false);
  if (!SourceTable::is_active(sources_.at(*index), Clock::now())) {  // its place may be another's by now
    sources_.at(*index).route.clear();
    return refuse(route, RefuseReason::no_hello, "say hello again after so long a silence", false);
  }
  if (sources_.at(*index).refused.size() > SourceTable::source_refusals_max) {
    sources_.at(*index).route.clear();
    return refuse(route, RefuseReason::no_hello, "say hello again, so that known refusals can be forgotten", false);
  }
  sources_.at(*index).seen = Clock::now();
  if (auto* data = std::get_if<gateway::Data>(&*message)) return on_data(*index, *data);
  if (auto* flush = std::get_if<gateway::Flush>(&*message)) return on_flush(*index, *flush);
  if (std::holds_alternative<gateway::Ping>(*message)) return acknowledge(*index, {});
  refuse(route, RefuseReason::bad_frame, "this message goes from the daemon to a gateway, not back", false);
}

void Ingestion::refuse(const std::string& route, RefuseReason reason, std::string detail, bool final,
                       std::uint64_t expected) {
  send_(route, gateway::Refuse{reason, std::move(detail), expected, final});
}

void Ingestion::on_hello(const std::string& key, const std::string& route, const gateway::Hello& hello) {
  if (hello.version != gateway::protocol_version)
    return refuse(route, RefuseReason::version,
                  "protocol version " + std::to_string(hello.version) + " is not spoken here, only " +
                      std::to_string(gateway::protocol_version), true);
  if (hello.epoch == 0) return refuse(route, RefuseReason::bad_frame, "an epoch is 1 or more", true);
  const auto known = sources_.find(key);
  const Source* source = known ? &sources_.at(*known) : nullptr;
  if (source && hello.epoch < source->epoch)
    return refuse(route, RefuseReason::stale_epoch,
                  "epoch " + std::to_string(hello.epoch) + " is over, " + std::to_string(source->epoch) +
                      " has begun; a gateway that lost its state goes on with a higher one",
                  true);
  const bool same_epoch = source && source->epoch == hello.epoch;
  const std::uint64_t watermark = same_epoch ? source->watermark : 0;
  if (hello.last_acked > watermark) {
    ++regressions_;
    spdlog::error("source {} has seen acknowledgements up to {}, but the store knows {}: the store went backwards",
                  key, hello.last_acked, watermark);
    return refuse(route, RefuseReason::regression,
                  "record " + std::to_string(hello.last_acked) + " was acknowledged, but the store ends at " +
                      std::to_string(watermark) + ": it was lost or set back", true);
  }
  const bool has_place = source && SourceTable::is_active(*source, Clock::now());
  if (!has_place && sources_.active(Clock::now()) >= gateway_.sources_max)
    return refuse(route, RefuseReason::credit,
                  "all " + std::to_string(gateway_.sources_max) + " places for gateways are taken; try later", false);
  const Index index = same_epoch ? *known : begin_epoch(key, hello.epoch);
  sources_.at(index).route = route;
  sources_.at(index).seen = Clock::now();
  welcome(index, hello);
}

/// What the earlier epoch still has in the queue is dropped with it: nobody waits for its acknowledgement.
Ingestion::Index Ingestion::begin_epoch(const std::string& key, std::uint64_t epoch) {
  if (const auto earlier = sources_.find(key))
    std::erase_if(accepted_, [&](const Accepted& record) { return record.record.origin.source == *earlier; });
  return sources_.open(key, epoch);
}

void Ingestion::welcome(Index index, const gateway::Hello& hello) {
  sources_.forget_refusals(index, hello.last_acked);
  const Source& source = sources_.at(index);
  gateway::Welcome answer;
  answer.epoch = source.epoch;
  answer.watermark = source.watermark;
  answer.credit_bytes = source_credit_bytes();
  answer.credit_records = gateway_.credit_records;
  answer.record_bytes_max = gateway_.record_bytes_max;
  for (const auto& [seq, reason] : source.refused)
    if (seq <= source.watermark) answer.refused.push_back({seq, reason});
  send_(source.route, answer);
}

void Ingestion::on_data(Index index, gateway::Data& data) {
  Source& source = sources_.at(index);
  if (draining_) return refuse(source.route, RefuseReason::stopping, "the daemon is stopping", false);
  if (data.epoch != source.epoch)
    return refuse(source.route, RefuseReason::stale_epoch, "the data is of epoch " + std::to_string(data.epoch) +
                                                               ", not " + std::to_string(source.epoch), true);
  if (data.first_seq > source.received + 1)
    return refuse(source.route, RefuseReason::gap,
                  "record " + std::to_string(data.first_seq) + " came where " + std::to_string(source.received + 1) +
                      " was next", false, source.received + 1);
  for (std::size_t i = 0; i < data.records.size(); ++i) {
    const std::uint64_t seq = data.first_seq + i;
    if (seq <= source.received) continue;  // a resend of what is here already
    const bool over_records = seq - source.watermark > gateway_.credit_records;
    const std::uint64_t bytes = source.bytes_open + credit_of(data.records[i]);
    if (over_records || bytes > source_credit_bytes() + gateway_.record_bytes_max)
      return refuse(source.route, RefuseReason::credit, "record " + std::to_string(seq) + " is beyond the credit",
                    false, seq);
    accept(index, seq, data.records[i]);
  }
}

/// Of a record that is too long, gateways count and send only so much as shows it.
std::uint64_t Ingestion::credit_of(const gateway::OutgoingRecord& record) const {
  return std::min<std::uint64_t>(record.text.size(), std::uint64_t{gateway_.record_bytes_max} + 1);
}

void Ingestion::accept(Index index, std::uint64_t seq, gateway::OutgoingRecord& record) {
  Source& source = sources_.at(index);
  const std::uint64_t bytes = credit_of(record);
  Accepted accepted{{{index, seq}, record.prompt_bytes, std::move(record.text)}, std::nullopt, bytes};
  source.received = seq;
  ++total_records_;
  accepted.refusal = check(accepted.record);
  if (accepted.refusal) std::string().swap(accepted.record.text);
  source.bytes_open += bytes;
  accepted_.push_back(std::move(accepted));
}

std::optional<Refusal> Ingestion::check(const Record& record) const {
  if (record.text.size() > gateway_.record_bytes_max) return Refusal::too_long;
  if (!is_utf8(record.text)) return Refusal::not_utf8;
  if (record.text.find_first_not_of(" \t\r\n\f\v") == std::string::npos) return Refusal::empty;
  const bool inside = record.prompt_bytes < record.text.size() &&
                      (static_cast<unsigned char>(record.text[record.prompt_bytes]) & 0xC0) == 0x80;
  if (record.prompt_bytes > record.text.size() || inside) return Refusal::bad_prompt;
  return std::nullopt;
}

void Ingestion::on_flush(Index index, const gateway::Flush& flush) {
  Source& source = sources_.at(index);
  if (flush.epoch != source.epoch || flush.up_to > source.received)
    return refuse(source.route, RefuseReason::gap, "the flush is beyond what was received", false, source.received + 1);
  if (flush.up_to <= source.watermark) return acknowledge(index, {});
  source.flush_at = flush.up_to;
}

void Ingestion::acknowledge(Index index, std::vector<gateway::RefusedSeq> refused) {
  Source& source = sources_.at(index);
  if (source.route.empty()) return;
  const gateway::Ack ack{source.epoch, source.watermark, std::move(refused), source_credit_bytes(),
                         gateway_.credit_records};
  // Lost on its way: the gateway will have to say hello, and learns all of it from the welcome.
  if (!send_(source.route, ack)) source.route.clear();
}

}  // namespace kpool
