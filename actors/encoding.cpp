#include "actors/encoding.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

namespace kpool {

Status Encoding::open() {
  auto made = make_();
  if (!made) return made.error();
  encoder_ = *std::move(made);
  if (journal_place_.path.empty()) return Done{};
  auto journal = FlightJournal::open(journal_place_);
  if (!journal) return journal.error();
  journal_ = *std::move(journal);
  return Done{};
}

Status Encoding::start(std::uint64_t group, Outbox&) {
  group_ = group;
  encoder_->begin_group();
  return Done{};
}

Status Encoding::on_message(pipeline::Message message, Outbox& out) {
  if (auto* barrier = std::get_if<pipeline::Barrier>(&message)) {
    const pipeline::Barrier mine{barrier->group, name(id())};
    if (journal_) journal_->end_group();
    group_ = barrier->group;
    encoder_->begin_group();
    out.send(StageId::persistence, mine);
    out.send(StageId::routing, mine);
    return Done{};
  }
  auto* records = std::get_if<pipeline::Records>(&message);
  if (!records) return Done{};
  pipeline::EncodedRecords encoded;
  pipeline::Refused refused{group_ + 1, {}};
  records_ += records->records.size();
  for (Encoded& result : encode(std::move(records->records))) {
    if (auto* done = std::get_if<EncodedRecord>(&result)) {
      tokens_ += done->tokens.size();
      encoded.records.push_back(std::move(*done));
    } else {
      refused.records.push_back(std::get<RefusedRecord>(result));
    }
  }
  refused_ += refused.records.size();
  if (!refused.records.empty()) out.send(StageId::persistence, std::move(refused));
  if (!encoded.records.empty()) out.send(StageId::routing, std::move(encoded));
  return Done{};
}

/// Together is faster. After a crash, or where one of them makes the encoder throw, one by one, which shows whose fault
/// it is.
std::vector<Encoded> Encoding::encode(std::vector<Record> records) {
  const auto suspect = [&](const Record& record) { return journal_->is_poison(record.origin); };
  const bool careful = journal_ && (journal_->careful() || std::any_of(records.begin(), records.end(), suspect));
  if (records.size() > 1 && !careful) {
    try {
      return encoder_->encode(records);
    } catch (const std::exception& error) {
      spdlog::warn("encoding: {} records are encoded one by one: {}", records.size(), error.what());
    }
  }
  std::vector<Encoded> results;
  for (Record& record : records) results.push_back(encode_one(std::move(record)));
  return results;
}

Encoded Encoding::encode_one(Record record) {
  const Origin origin = record.origin;
  if (journal_ && journal_->is_poison(origin)) return RefusedRecord{origin, Refusal::poison};
  if (journal_) journal_->take(origin);
  std::vector<Record> one;
  one.push_back(std::move(record));
  Encoded result = RefusedRecord{origin, Refusal::internal};
  try {
    auto encoded = encoder_->encode(std::move(one));
    KPOOL_ASSERT(encoded.size() == 1);
    result = std::move(encoded.front());
  } catch (const std::exception& error) {
    spdlog::error("encoding: record {} of source {} was refused: {}", origin.seq, origin.source, error.what());
  }
  if (journal_) journal_->put_down();
  return result;
}

std::string Encoding::report() const {
  return nlohmann::json{{"records", records_}, {"tokens", tokens_}, {"refused", refused_}}.dump();
}

}  // namespace kpool
